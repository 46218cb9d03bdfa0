"""Avro: schemas (`schema`), records to Arrow (`reading`) and back (`writing`). https://avro.apache.org/docs/1.12.0/specification/"""
