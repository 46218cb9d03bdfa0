"""Relations without rows: comments, extensions, partitions, locks and whatever else there is none of."""

from __future__ import annotations

from streamsql.catalog.relation import table, view

RELATIONS = (
    view(
        12085,
        "pg_available_extension_versions",
        """name name, version text, installed bool, superuser bool, trusted bool, relocatable bool, schema name, requires
    name[], comment text""",
    ),
    view(
        12081,
        "pg_available_extensions",
        """name name, default_version text, installed_version text, comment text""",
    ),
    view(
        12138,
        "pg_backend_memory_contexts",
        """name text, ident text, parent text, level int4, total_bytes int8, total_nblocks int8, free_bytes int8,
    free_chunks int8, used_bytes int8""",
    ),
    view(
        12130,
        "pg_config",
        """name text, setting text""",
    ),
    table(
        3079,
        "pg_extension",
        """oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text, extconfig oid[],
    extcondition text[]""",
    ),
    view(
        12110,
        "pg_file_settings",
        """sourcefile text, sourceline int4, seqno int4, name text, setting text, applied bool, error text""",
    ),
    table(
        2611,
        "pg_inherits",
        """inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool""",
    ),
    table(
        2613,
        "pg_largeobject",
        """loid oid, pageno int4, data bytea""",
    ),
    table(
        2995,
        "pg_largeobject_metadata",
        """oid oid, lomowner oid, lomacl aclitem[]""",
    ),
    view(
        12073,
        "pg_locks",
        """locktype text, database oid, relation oid, page int4, tuple int2, virtualxid text, transactionid xid, classid
    oid, objid oid, objsubid int2, virtualtransaction text, pid int4, mode text, granted bool, fastpath bool,
    waitstart timestamptz""",
    ),
    table(
        3350,
        "pg_partitioned_table",
        """partrelid oid, partstrat char, partnatts int2, partdefid oid, partattrs int2vector, partclass oidvector,
    partcollation oidvector, partexprs pg_node_tree""",
    ),
    view(
        12090,
        "pg_prepared_xacts",
        """transaction xid, gid text, prepared timestamptz, owner name, database name""",
    ),
    table(
        2396,
        "pg_shdescription",
        """objoid oid, classoid oid, description text""",
    ),
    view(
        12134,
        "pg_shmem_allocations",
        """name text, off int8, size int8, allocated_size int8""",
    ),
    view(
        12122,
        "pg_timezone_abbrevs",
        """abbrev text, utc_offset interval, is_dst bool""",
    ),
    view(
        12126,
        "pg_timezone_names",
        """name text, abbrev text, utc_offset interval, is_dst bool""",
    ),
)
