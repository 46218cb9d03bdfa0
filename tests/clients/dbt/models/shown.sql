{{ config(materialized='view') }}
select name from {{ ref('users') }}
