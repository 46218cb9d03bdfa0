# docker build -t streamsql .
# docker run -p 127.0.0.1:5433:5433 -e STREAMSQL_PASSWORD=... -v streamsql-data:/data streamsql

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY streamsql ./streamsql
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/streamsql \
    && pip --python /opt/streamsql/bin/python install --no-cache-dir --constraint requirements.lock /wheels/*.whl \
    && rm -rf /opt/streamsql/lib/python*/site-packages/pyarrow/include \
              /opt/streamsql/lib/python*/site-packages/pyarrow/tests

FROM python:3.12-slim
LABEL org.opencontainers.image.title="streamsql" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent streamsql \
    && install -d -o streamsql -g streamsql /data
COPY --from=build /opt/streamsql /opt/streamsql
ENV PATH=/opt/streamsql/bin:$PATH PYTHONUNBUFFERED=1
USER streamsql
VOLUME /data
EXPOSE 5433
STOPSIGNAL SIGTERM

# A query, not just an open port: it goes through the engine's store as a client's would.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import asyncio, asyncpg, os\nasync def check():\n    connection = await asyncpg.connect(host='127.0.0.1', port=int(os.environ.get('STREAMSQL_PORT', '5433')), user='streamsql', password=os.environ.get('STREAMSQL_PASSWORD'), database='streamsql', ssl=False, timeout=4)\n    assert await connection.fetchval('SELECT 1', timeout=4) == 1\n    await connection.close()\nasyncio.run(check())"]

# The port must be open to other addresses than the container's own loopback for -p to reach it, so the first owner must have
# a password (STREAMSQL_PASSWORD, or STREAMSQL_PASSWORD_FILE for a secret that is mounted); without one the server says so
# and ends.
CMD ["streamsql", "serve", "--host", "0.0.0.0", "--data-dir", "/data"]
