"""Relations without rows: text search: there is none."""

from __future__ import annotations

from streamsql.catalog.relation import table

RELATIONS = (
    table(
        3602,
        "pg_ts_config",
        """oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid""",
    ),
    table(
        3603,
        "pg_ts_config_map",
        """mapcfg oid, maptokentype int4, mapseqno int4, mapdict oid""",
    ),
    table(
        3600,
        "pg_ts_dict",
        """oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid, dictinitoption text""",
    ),
    table(
        3601,
        "pg_ts_parser",
        """oid oid, prsname name, prsnamespace oid, prsstart regproc, prstoken regproc, prsend regproc, prsheadline
    regproc, prslextype regproc""",
    ),
    table(
        3764,
        "pg_ts_template",
        """oid oid, tmplname name, tmplnamespace oid, tmplinit regproc, tmpllexize regproc""",
    ),
)
