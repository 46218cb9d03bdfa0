{{ config(materialized='materialized_view') }}
select who, count(*) as n from {{ source('app', 'clicks') }} group by who
