"""Views without rows: domains, routines, triggers, foreign data and the tables of the standard itself."""

from __future__ import annotations

from streamsql.catalog.relation import standard

RELATIONS = (
    standard(
        13245,
        "attributes",
        """udt_catalog name, udt_schema name, udt_name name, attribute_name name, ordinal_position int4,
    attribute_default varchar, is_nullable varchar, data_type varchar, character_maximum_length int4,
    character_octet_length int4, character_set_catalog name, character_set_schema name, character_set_name name,
    collation_catalog name, collation_schema name, collation_name name, numeric_precision int4,
    numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, interval_type varchar,
    interval_precision int4, attribute_udt_catalog name, attribute_udt_schema name, attribute_udt_name name,
    scope_catalog name, scope_schema name, scope_name name, maximum_cardinality int4, dtd_identifier name,
    is_derived_reference_attribute varchar""",
    ),
    standard(
        13255,
        "check_constraint_routine_usage",
        """constraint_catalog name, constraint_schema name, constraint_name name, specific_catalog name, specific_schema
    name, specific_name name""",
    ),
    standard(
        13270,
        "collation_character_set_applicability",
        """collation_catalog name, collation_schema name, collation_name name, character_set_catalog name,
    character_set_schema name, character_set_name name""",
    ),
    standard(
        13265,
        "collations",
        """collation_catalog name, collation_schema name, collation_name name, pad_attribute varchar""",
    ),
    standard(
        13275,
        "column_column_usage",
        """table_catalog name, table_schema name, table_name name, column_name name, dependent_column name""",
    ),
    standard(
        13280,
        "column_domain_usage",
        """domain_catalog name, domain_schema name, domain_name name, table_catalog name, table_schema name, table_name
    name, column_name name""",
    ),
    standard(
        13503,
        "column_options",
        """table_catalog name, table_schema name, table_name name, column_name name, option_name name, option_value
    varchar""",
    ),
    standard(
        13290,
        "column_udt_usage",
        """udt_catalog name, udt_schema name, udt_name name, table_catalog name, table_schema name, table_name name,
    column_name name""",
    ),
    standard(
        13488,
        "data_type_privileges",
        """object_catalog name, object_schema name, object_name name, object_type varchar, dtd_identifier name""",
    ),
    standard(
        13310,
        "domain_constraints",
        """constraint_catalog name, constraint_schema name, constraint_name name, domain_catalog name, domain_schema
    name, domain_name name, is_deferrable varchar, initially_deferred varchar""",
    ),
    standard(
        13315,
        "domain_udt_usage",
        """udt_catalog name, udt_schema name, udt_name name, domain_catalog name, domain_schema name, domain_name name""",
    ),
    standard(
        13320,
        "domains",
        """domain_catalog name, domain_schema name, domain_name name, data_type varchar, character_maximum_length int4,
    character_octet_length int4, character_set_catalog name, character_set_schema name, character_set_name name,
    collation_catalog name, collation_schema name, collation_name name, numeric_precision int4,
    numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, interval_type varchar,
    interval_precision int4, domain_default varchar, udt_catalog name, udt_schema name, udt_name name,
    scope_catalog name, scope_schema name, scope_name name, maximum_cardinality int4, dtd_identifier name""",
    ),
    standard(
        13493,
        "element_types",
        """object_catalog name, object_schema name, object_name name, object_type varchar, collection_type_identifier
    name, data_type varchar, character_maximum_length int4, character_octet_length int4, character_set_catalog
    name, character_set_schema name, character_set_name name, collation_catalog name, collation_schema name,
    collation_name name, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4,
    datetime_precision int4, interval_type varchar, interval_precision int4, domain_default varchar, udt_catalog
    name, udt_schema name, udt_name name, scope_catalog name, scope_schema name, scope_name name,
    maximum_cardinality int4, dtd_identifier name""",
    ),
    standard(
        13511,
        "foreign_data_wrapper_options",
        """foreign_data_wrapper_catalog name, foreign_data_wrapper_name name, option_name name, option_value varchar""",
    ),
    standard(
        13515,
        "foreign_data_wrappers",
        """foreign_data_wrapper_catalog name, foreign_data_wrapper_name name, authorization_identifier name, library_name
    varchar, foreign_data_wrapper_language varchar""",
    ),
    standard(
        13524,
        "foreign_server_options",
        """foreign_server_catalog name, foreign_server_name name, option_name name, option_value varchar""",
    ),
    standard(
        13528,
        "foreign_servers",
        """foreign_server_catalog name, foreign_server_name name, foreign_data_wrapper_catalog name,
    foreign_data_wrapper_name name, foreign_server_type varchar, foreign_server_version varchar,
    authorization_identifier name""",
    ),
    standard(
        13537,
        "foreign_table_options",
        """foreign_table_catalog name, foreign_table_schema name, foreign_table_name name, option_name name, option_value
    varchar""",
    ),
    standard(
        13541,
        "foreign_tables",
        """foreign_table_catalog name, foreign_table_schema name, foreign_table_name name, foreign_server_catalog name,
    foreign_server_name name""",
    ),
    standard(
        13334,
        "parameters",
        """specific_catalog name, specific_schema name, specific_name name, ordinal_position int4, parameter_mode
    varchar, is_result varchar, as_locator varchar, parameter_name name, data_type varchar,
    character_maximum_length int4, character_octet_length int4, character_set_catalog name, character_set_schema
    name, character_set_name name, collation_catalog name, collation_schema name, collation_name name,
    numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, datetime_precision int4,
    interval_type varchar, interval_precision int4, udt_catalog name, udt_schema name, udt_name name,
    scope_catalog name, scope_schema name, scope_name name, maximum_cardinality int4, dtd_identifier name,
    parameter_default varchar""",
    ),
    standard(
        13358,
        "role_routine_grants",
        """grantor name, grantee name, specific_catalog name, specific_schema name, specific_name name, routine_catalog
    name, routine_schema name, routine_name name, privilege_type varchar, is_grantable varchar""",
    ),
    standard(
        13450,
        "role_udt_grants",
        """grantor name, grantee name, udt_catalog name, udt_schema name, udt_name name, privilege_type varchar,
    is_grantable varchar""",
    ),
    standard(
        13459,
        "role_usage_grants",
        """grantor name, grantee name, object_catalog name, object_schema name, object_name name, object_type varchar,
    privilege_type varchar, is_grantable varchar""",
    ),
    standard(
        13348,
        "routine_column_usage",
        """specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name,
    routine_name name, table_catalog name, table_schema name, table_name name, column_name name""",
    ),
    standard(
        13353,
        "routine_privileges",
        """grantor name, grantee name, specific_catalog name, specific_schema name, specific_name name, routine_catalog
    name, routine_schema name, routine_name name, privilege_type varchar, is_grantable varchar""",
    ),
    standard(
        13362,
        "routine_routine_usage",
        """specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name,
    routine_name name""",
    ),
    standard(
        13367,
        "routine_sequence_usage",
        """specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name,
    routine_name name, sequence_catalog name, sequence_schema name, sequence_name name""",
    ),
    standard(
        13372,
        "routine_table_usage",
        """specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name,
    routine_name name, table_catalog name, table_schema name, table_name name""",
    ),
    standard(
        13377,
        "routines",
        """specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name,
    routine_name name, routine_type varchar, module_catalog name, module_schema name, module_name name,
    udt_catalog name, udt_schema name, udt_name name, data_type varchar, character_maximum_length int4,
    character_octet_length int4, character_set_catalog name, character_set_schema name, character_set_name name,
    collation_catalog name, collation_schema name, collation_name name, numeric_precision int4,
    numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, interval_type varchar,
    interval_precision int4, type_udt_catalog name, type_udt_schema name, type_udt_name name, scope_catalog name,
    scope_schema name, scope_name name, maximum_cardinality int4, dtd_identifier name, routine_body varchar,
    routine_definition varchar, external_name varchar, external_language varchar, parameter_style varchar,
    is_deterministic varchar, sql_data_access varchar, is_null_call varchar, sql_path varchar,
    schema_level_routine varchar, max_dynamic_result_sets int4, is_user_defined_cast varchar,
    is_implicitly_invocable varchar, security_type varchar, to_sql_specific_catalog name, to_sql_specific_schema
    name, to_sql_specific_name name, as_locator varchar, created timestamptz, last_altered timestamptz,
    new_savepoint_level varchar, is_udt_dependent varchar, result_cast_from_data_type varchar,
    result_cast_as_locator varchar, result_cast_char_max_length int4, result_cast_char_octet_length int4,
    result_cast_char_set_catalog name, result_cast_char_set_schema name, result_cast_char_set_name name,
    result_cast_collation_catalog name, result_cast_collation_schema name, result_cast_collation_name name,
    result_cast_numeric_precision int4, result_cast_numeric_precision_radix int4, result_cast_numeric_scale int4,
    result_cast_datetime_precision int4, result_cast_interval_type varchar, result_cast_interval_precision int4,
    result_cast_type_udt_catalog name, result_cast_type_udt_schema name, result_cast_type_udt_name name,
    result_cast_scope_catalog name, result_cast_scope_schema name, result_cast_scope_name name,
    result_cast_maximum_cardinality int4, result_cast_dtd_identifier name""",
    ),
    standard(
        13391,
        "sql_features",
        """feature_id varchar, feature_name varchar, sub_feature_id varchar, sub_feature_name varchar, is_supported
    varchar, is_verified_by varchar, comments varchar""",
    ),
    standard(
        13396,
        "sql_implementation_info",
        """implementation_info_id varchar, implementation_info_name varchar, integer_value int4, character_value varchar,
    comments varchar""",
    ),
    standard(
        13401,
        "sql_parts",
        """feature_id varchar, feature_name varchar, is_supported varchar, is_verified_by varchar, comments varchar""",
    ),
    standard(
        13406,
        "sql_sizing",
        """sizing_id int4, sizing_name varchar, supported_value int4, comments varchar""",
    ),
    standard(
        13430,
        "transforms",
        """udt_catalog name, udt_schema name, udt_name name, specific_catalog name, specific_schema name, specific_name
    name, group_name name, transform_type varchar""",
    ),
    standard(
        13435,
        "triggered_update_columns",
        """trigger_catalog name, trigger_schema name, trigger_name name, event_object_catalog name, event_object_schema
    name, event_object_table name, event_object_column name""",
    ),
    standard(
        13440,
        "triggers",
        """trigger_catalog name, trigger_schema name, trigger_name name, event_manipulation varchar, event_object_catalog
    name, event_object_schema name, event_object_table name, action_order int4, action_condition varchar,
    action_statement varchar, action_orientation varchar, action_timing varchar, action_reference_old_table name,
    action_reference_new_table name, action_reference_old_row name, action_reference_new_row name, created
    timestamptz""",
    ),
    standard(
        13445,
        "udt_privileges",
        """grantor name, grantee name, udt_catalog name, udt_schema name, udt_name name, privilege_type varchar,
    is_grantable varchar""",
    ),
    standard(
        13454,
        "usage_privileges",
        """grantor name, grantee name, object_catalog name, object_schema name, object_name name, object_type varchar,
    privilege_type varchar, is_grantable varchar""",
    ),
    standard(
        13463,
        "user_defined_types",
        """user_defined_type_catalog name, user_defined_type_schema name, user_defined_type_name name,
    user_defined_type_category varchar, is_instantiable varchar, is_final varchar, ordering_form varchar,
    ordering_category varchar, ordering_routine_catalog name, ordering_routine_schema name, ordering_routine_name
    name, reference_type varchar, data_type varchar, character_maximum_length int4, character_octet_length int4,
    character_set_catalog name, character_set_schema name, character_set_name name, collation_catalog name,
    collation_schema name, collation_name name, numeric_precision int4, numeric_precision_radix int4,
    numeric_scale int4, datetime_precision int4, interval_type varchar, interval_precision int4,
    source_dtd_identifier name, ref_dtd_identifier name""",
    ),
    standard(
        13550,
        "user_mapping_options",
        """authorization_identifier name, foreign_server_catalog name, foreign_server_name name, option_name name,
    option_value varchar""",
    ),
    standard(
        13555,
        "user_mappings",
        """authorization_identifier name, foreign_server_catalog name, foreign_server_name name""",
    ),
    standard(
        13468,
        "view_column_usage",
        """view_catalog name, view_schema name, view_name name, table_catalog name, table_schema name, table_name name,
    column_name name""",
    ),
    standard(
        13473,
        "view_routine_usage",
        """table_catalog name, table_schema name, table_name name, specific_catalog name, specific_schema name,
    specific_name name""",
    ),
    standard(
        13478,
        "view_table_usage",
        """view_catalog name, view_schema name, view_name name, table_catalog name, table_schema name, table_name name""",
    ),
)
