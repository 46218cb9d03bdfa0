"""GET /metrics: what Prometheus reads. Numbers are taken when they are asked for; nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from streamsql import __version__
from streamsql.catalog.access import READ_ALL_DATA, READ_ALL_STATS
from streamsql.catalog.rights import may_read
from streamsql.engine.watermark import NEVER
from streamsql.server.http.parts import Parts


class ServerCollector(Collector):
    """Gives the metrics of a server: those of streams and views that a role may read, as in ``streamsql.streams``."""

    def __init__(self, parts: Parts, role: int) -> None:
        self._parts = parts
        self._role = role

    def _shown(self, name: str) -> bool:
        catalog, role = self._parts.engine.catalog, self._role
        if catalog.access.has_rights_of(role, READ_ALL_DATA) or catalog.access.has_rights_of(role, READ_ALL_STATS):
            return True
        made = catalog.get(name)
        return made is not None and may_read(catalog, role, made)

    def collect(self) -> Iterable[Metric]:
        yield from self._of_engine()
        yield from self._of_streams()
        yield from self._of_views()

    def _of_engine(self) -> Iterable[Metric]:
        engine = self._parts.engine
        info = GaugeMetricFamily("streamsql_build_info", "Version of the server", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield CounterMetricFamily("streamsql_epochs", "Epochs committed since the database was made", engine.epoch)
        seconds = engine.seconds
        yield HistogramMetricFamily(
            "streamsql_epoch_seconds", "Time that an epoch took, its commit included", seconds.buckets(), seconds.total
        )
        yield GaugeMetricFamily("streamsql_queue_rows", "Rows that wait for the engine", engine.queue.rows)
        yield GaugeMetricFamily("streamsql_queue_bytes", "Bytes that wait for the engine", engine.queue.bytes)
        yield GaugeMetricFamily("streamsql_sessions", "Sessions of Postgres clients", len(self._parts.sessions()))
        yield GaugeMetricFamily(
            "streamsql_http_requests", "Queries and subscriptions over HTTP", len(self._parts.running)
        )

    def _of_streams(self) -> Iterable[Metric]:
        rows = CounterMetricFamily("streamsql_stream_rows_in", "Rows taken in", labels=["stream"])
        rejected = CounterMetricFamily(
            "streamsql_stream_rows_rejected", "Records that could not be read", labels=["stream"]
        )
        for name, at in list(self._parts.engine.streams.items()):
            if not self._shown(name):
                continue
            rows.add_metric([name], at.rows_in)
            rejected.add_metric([name], at.rows_rejected)
        yield from (rows, rejected)

    def _of_views(self) -> Iterable[Metric]:
        came = CounterMetricFamily("streamsql_view_rows_in", "Rows that a view took in", labels=["view"])
        out = CounterMetricFamily("streamsql_view_rows_out", "Rows and changes that a view gave", labels=["view"])
        late = CounterMetricFamily("streamsql_view_rows_late", "Rows that came too late", labels=["view"])
        state = GaugeMetricFamily("streamsql_view_state_rows", "Rows in a view's state", labels=["view"])
        readers = GaugeMetricFamily("streamsql_view_subscribers", "Who follows a view", labels=["view"])
        failed = GaugeMetricFamily("streamsql_view_failed", "1 where a view has stopped", labels=["view"])
        lag = GaugeMetricFamily(
            "streamsql_view_watermark_lag_seconds", "How far the watermark is behind the clock", labels=["view"]
        )
        now = self._parts.engine.clock.now_us()
        for name, query in list(self._parts.engine.queries.items()):
            if query.temporary or not self._shown(name):
                continue
            at = query.progress
            came.add_metric([name], at.rows_in)
            out.add_metric([name], at.rows_out)
            late.add_metric([name], at.rows_late)
            state.add_metric([name], at.state_rows)
            readers.add_metric([name], query.log.readers)
            failed.add_metric([name], float(at.error is not None))
            if query.plan.watermark_delay_us is not None and at.largest != NEVER:
                lag.add_metric([name], (now - at.largest + query.plan.watermark_delay_us) / 1e6)
        yield from (came, out, late, state, readers, failed, lag)


def exposed(parts: Parts, role: int) -> bytes:
    """Give the metrics as text, as far as a role may see them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServerCollector(parts, role))
    found: bytes = generate_latest(registry)
    return found
