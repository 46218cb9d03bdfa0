"""Relations without rows: rules of access: whoever may connect may do everything."""

from __future__ import annotations

from streamsql.catalog.relation import table, view

RELATIONS = (
    table(
        826,
        "pg_default_acl",
        """oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype char, defaclacl aclitem[]""",
    ),
    view(
        12114,
        "pg_hba_file_rules",
        """line_number int4, type text, database text[], user_name text[], address text, netmask text, auth_method text,
    options text[], error text""",
    ),
    view(
        12118,
        "pg_ident_file_mappings",
        """line_number int4, map_name text, sys_name text, pg_username text, error text""",
    ),
    table(
        6243,
        "pg_parameter_acl",
        """oid oid, parname text, paracl aclitem[]""",
    ),
    view(
        12018,
        "pg_policies",
        """schemaname name, tablename name, policyname name, permissive text, roles name[], cmd text, qual text,
    with_check text""",
    ),
    table(
        3256,
        "pg_policy",
        """oid oid, polname name, polrelid oid, polcmd char, polpermissive bool, polroles oid[], polqual pg_node_tree,
    polwithcheck pg_node_tree""",
    ),
    table(
        3596,
        "pg_seclabel",
        """objoid oid, classoid oid, objsubid int4, provider text, label text""",
    ),
    view(
        12099,
        "pg_seclabels",
        """objoid oid, classoid oid, objsubid int4, objtype text, objnamespace oid, objname text, provider text, label
    text""",
    ),
    table(
        3592,
        "pg_shseclabel",
        """objoid oid, classoid oid, provider text, label text""",
    ),
)
