"""Relations without rows: operators, casts, triggers, rules and what depends on what."""

from __future__ import annotations

from streamsql.catalog.relation import table, view

RELATIONS = (
    table(
        2600,
        "pg_aggregate",
        """aggfnoid regproc, aggkind char, aggnumdirectargs int2, aggtransfn regproc, aggfinalfn regproc, aggcombinefn
    regproc, aggserialfn regproc, aggdeserialfn regproc, aggmtransfn regproc, aggminvtransfn regproc, aggmfinalfn
    regproc, aggfinalextra bool, aggmfinalextra bool, aggfinalmodify char, aggmfinalmodify char, aggsortop oid,
    aggtranstype oid, aggtransspace int4, aggmtranstype oid, aggmtransspace int4, agginitval text, aggminitval
    text""",
    ),
    table(
        2602,
        "pg_amop",
        """oid oid, amopfamily oid, amoplefttype oid, amoprighttype oid, amopstrategy int2, amoppurpose char, amopopr
    oid, amopmethod oid, amopsortfamily oid""",
    ),
    table(
        2603,
        "pg_amproc",
        """oid oid, amprocfamily oid, amproclefttype oid, amprocrighttype oid, amprocnum int2, amproc regproc""",
    ),
    table(
        2605,
        "pg_cast",
        """oid oid, castsource oid, casttarget oid, castfunc oid, castcontext char, castmethod char""",
    ),
    table(
        2607,
        "pg_conversion",
        """oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, contoencoding int4, conproc
    regproc, condefault bool""",
    ),
    table(
        3466,
        "pg_event_trigger",
        """oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled char, evttags text[]""",
    ),
    table(
        2616,
        "pg_opclass",
        """oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid, opcdefault
    bool, opckeytype oid""",
    ),
    table(
        2617,
        "pg_operator",
        """oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind char, oprcanmerge bool, oprcanhash bool,
    oprleft oid, oprright oid, oprresult oid, oprcom oid, oprnegate oid, oprcode regproc, oprrest regproc, oprjoin
    regproc""",
    ),
    table(
        2753,
        "pg_opfamily",
        """oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid""",
    ),
    view(
        12023,
        "pg_rules",
        """schemaname name, tablename name, rulename name, definition text""",
    ),
    table(
        1214,
        "pg_shdepend",
        """dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype char""",
    ),
    table(
        3576,
        "pg_transform",
        """oid oid, trftype oid, trflang oid, trffromsql regproc, trftosql regproc""",
    ),
    table(
        2620,
        "pg_trigger",
        """oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled char, tgisinternal bool,
    tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool, tginitdeferred bool, tgnargs int2,
    tgattr int2vector, tgargs bytea, tgqual pg_node_tree, tgoldtable name, tgnewtable name""",
    ),
)
