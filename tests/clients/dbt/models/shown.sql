{{ config(materialized='view') }}
select who from {{ source('app', 'clicks') }}
