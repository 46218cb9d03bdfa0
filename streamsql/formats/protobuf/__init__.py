"""Protocol Buffers: schemas (`schema`), messages to Arrow (`reading`), and back (`writing`). https://protobuf.dev/programming-guides/encoding/"""
