"""``pg_catalog``: the relations of PostgreSQL 15's system catalog, made from our own. One file a relation or small family."""

from __future__ import annotations

from streamsql.catalog.pg_catalog import (
    empty_access,
    empty_foreign,
    empty_programs,
    empty_progress,
    empty_remaining,
    empty_replication,
    empty_statistics,
    empty_text_search,
    pg_cursors,
    pg_roles,
    pg_stat_activity,
    pg_tables,
)
from streamsql.catalog.pg_catalog.pg_am import PG_AM, PG_COLLATION
from streamsql.catalog.pg_catalog.pg_attribute import PG_ATTRDEF, PG_ATTRIBUTE
from streamsql.catalog.pg_catalog.pg_class import PG_CLASS
from streamsql.catalog.pg_catalog.pg_cursors import PG_LISTENING_CHANNELS
from streamsql.catalog.pg_catalog.pg_depend import PG_DEPEND, PG_REWRITE
from streamsql.catalog.pg_catalog.pg_get_keywords import PG_GET_KEYWORDS
from streamsql.catalog.pg_catalog.pg_index import PG_CONSTRAINT, PG_INDEX, PG_INDEXES
from streamsql.catalog.pg_catalog.pg_namespace import (
    PG_DATABASE,
    PG_DESCRIPTION,
    PG_INIT_PRIVS,
    PG_NAMESPACE,
    PG_TABLESPACE,
)
from streamsql.catalog.pg_catalog.pg_proc import PG_LANGUAGE, PG_PROC
from streamsql.catalog.pg_catalog.pg_sequence import PG_SEQUENCE, PG_SEQUENCES
from streamsql.catalog.pg_catalog.pg_settings import PG_SETTINGS
from streamsql.catalog.pg_catalog.pg_type import PG_ENUM, PG_RANGE, PG_TYPE

RELATIONS = (
    PG_AM,
    PG_ATTRDEF,
    PG_ATTRIBUTE,
    PG_CLASS,
    PG_COLLATION,
    PG_CONSTRAINT,
    PG_DATABASE,
    PG_DEPEND,
    PG_DESCRIPTION,
    PG_ENUM,
    PG_INDEX,
    PG_INDEXES,
    PG_INIT_PRIVS,
    PG_LANGUAGE,
    PG_NAMESPACE,
    PG_PROC,
    PG_RANGE,
    PG_REWRITE,
    PG_SEQUENCE,
    PG_SEQUENCES,
    PG_SETTINGS,
    PG_TABLESPACE,
    PG_TYPE,
    *pg_cursors.RELATIONS,
    *pg_roles.RELATIONS,
    *pg_stat_activity.RELATIONS,
    *pg_tables.RELATIONS,
    *empty_access.RELATIONS,
    *empty_foreign.RELATIONS,
    *empty_programs.RELATIONS,
    *empty_progress.RELATIONS,
    *empty_remaining.RELATIONS,
    *empty_replication.RELATIONS,
    *empty_statistics.RELATIONS,
    *empty_text_search.RELATIONS,
)
# functions that give a fixed set of rows, and are read like relations
FUNCTIONS = (PG_GET_KEYWORDS, PG_LISTENING_CHANNELS)
