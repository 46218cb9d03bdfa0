// What users of pgjdbc do. Prints "section: value" lines, which test_pgjdbc.py holds against what must come out.

import java.sql.*;
import java.time.*;
import java.util.*;

public class Conversation {
    static void say(String section, Object value) {
        System.out.println(section + ": " + value);
    }

    static String text(ResultSet rows) throws SQLException {
        var found = new ArrayList<String>();
        int width = rows.getMetaData().getColumnCount();
        while (rows.next()) {
            var cells = new ArrayList<String>();
            for (int i = 1; i <= width; i++) cells.add(rows.getString(i));
            found.add(String.join("|", cells.stream().map(String::valueOf).toList()));
        }
        rows.close();
        return String.join(" ", found);
    }

    static String column(ResultSet rows, String... names) throws SQLException {
        var found = new ArrayList<String>();
        while (rows.next()) {
            var cells = new ArrayList<String>();
            for (String name : names) cells.add(String.valueOf(rows.getString(name)));
            found.add(String.join("|", cells));
        }
        rows.close();
        return String.join(" ", found);
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        try (Connection c = DriverManager.getConnection(url); Statement s = c.createStatement()) {
            s.execute("CREATE TABLE j (id INT PRIMARY KEY, name VARCHAR(30) NOT NULL, price NUMERIC(10,2), at TIMESTAMP, "
                + "tz TIMESTAMPTZ, d DATE, t TIME, f DOUBLE PRECISION, b BOOLEAN, l BIGINT, u UUID, raw BYTEA, tags TEXT[])");
            s.execute("CREATE STREAM events (ts TIMESTAMP, k TEXT, n INT, WATERMARK FOR ts AS ts)");
            s.execute("CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS n FROM events GROUP BY k EMIT UPDATE");
            metadata(c);
            values(c);
            prepared(c);
            batches(c);
            transactions(c);
            errors(c);
            fetching(c);
            live(c, url);
        }
    }

    static void metadata(Connection c) throws SQLException {
        DatabaseMetaData m = c.getMetaData();
        say("product", m.getDatabaseProductName() + " " + m.getDatabaseMajorVersion());
        say("schemas", column(m.getSchemas(), "TABLE_SCHEM"));
        say("catalogs", column(m.getCatalogs(), "TABLE_CAT"));
        say("types", column(m.getTableTypes(), "TABLE_TYPE").contains("MATERIALIZED VIEW"));
        say("tables", column(m.getTables(null, "public", "%", new String[] {"TABLE", "VIEW", "MATERIALIZED VIEW"}),
            "TABLE_NAME", "TABLE_TYPE"));
        say("columns", column(m.getColumns(null, "public", "j", "%"), "COLUMN_NAME", "TYPE_NAME", "COLUMN_SIZE", "IS_NULLABLE"));
        say("keys", column(m.getPrimaryKeys(null, "public", "j"), "COLUMN_NAME", "PK_NAME"));
        say("imported", column(m.getImportedKeys(null, "public", "j"), "PKTABLE_NAME"));
        say("indexes", column(m.getIndexInfo(null, "public", "j", false, true), "COLUMN_NAME"));
        say("best row", column(m.getBestRowIdentifier(null, "public", "j", DatabaseMetaData.bestRowSession, true), "COLUMN_NAME"));
        say("type info", column(m.getTypeInfo(), "TYPE_NAME").contains("timestamptz"));
        m.getProcedures(null, null, "%").close();
        m.getFunctions(null, null, "ab%").close();
        m.getTablePrivileges(null, "public", "%").close();
        m.getColumnPrivileges(null, "public", "j", "%").close();
        m.getCrossReference(null, null, "j", null, null, "j").close();
        m.getUDTs(null, null, "%", null).close();
        m.getClientInfoProperties().close();
        say("words", m.getSQLKeywords().length() > 0);
    }

    static void values(Connection c) throws SQLException {
        try (PreparedStatement p = c.prepareStatement("INSERT INTO j VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
            for (int id = 1; id <= 8; id++) {  // after five it is a prepared statement of the server's, and binary
                p.setInt(1, id);
                p.setString(2, "n" + id);
                p.setBigDecimal(3, new java.math.BigDecimal("1.50"));
                p.setTimestamp(4, Timestamp.valueOf("2024-02-29 12:30:15.123456"));
                p.setObject(5, OffsetDateTime.of(2024, 2, 29, 12, 0, 0, 0, ZoneOffset.ofHours(2)));
                p.setDate(6, java.sql.Date.valueOf("1969-12-31"));
                p.setObject(7, LocalTime.of(23, 59, 59));
                p.setDouble(8, 0.25);
                p.setBoolean(9, true);
                p.setLong(10, Long.MAX_VALUE);
                p.setObject(11, UUID.fromString("12345678-1234-5678-1234-567812345678"));
                p.setBytes(12, new byte[] {0, -1});
                p.setArray(13, c.createArrayOf("text", new String[] {"a", null, "b,c"}));
                p.executeUpdate();
            }
        }
        try (PreparedStatement p = c.prepareStatement("SELECT * FROM j WHERE id = ?")) {
            var seen = new TreeSet<String>();
            for (int id = 1; id <= 8; id++) {
                p.setInt(1, id);
                try (ResultSet r = p.executeQuery()) {
                    r.next();
                    String tags = Arrays.toString((Object[]) r.getArray("tags").getArray());
                    seen.add(r.getString(2).charAt(0) + "|" + r.getBigDecimal(3) + "|" + r.getObject(4, LocalDateTime.class) + "|"
                        + r.getObject(5, OffsetDateTime.class).toInstant() + "|" + r.getDate(6) + "|" + r.getObject(7, LocalTime.class)
                        + "|" + r.getDouble(8) + "|" + r.getBoolean(9) + "|" + r.getLong(10) + "|" + r.getObject(11) + "|"
                        + Arrays.toString(r.getBytes(12)) + "|" + tags);
                }
            }
            say("values", seen);
            ResultSetMetaData m = p.getMetaData();
            var names = new ArrayList<String>();
            for (int i = 1; i <= m.getColumnCount(); i++) names.add(m.getColumnTypeName(i) + ":" + m.getColumnClassName(i));
            say("described", names);
            say("parameters", p.getParameterMetaData().getParameterTypeName(1));
        }
        try (PreparedStatement p = c.prepareStatement("INSERT INTO j (id, name, price, at) VALUES (?, ?, ?, ?)")) {
            p.setInt(1, 100);
            p.setString(2, "nulls");
            p.setNull(3, Types.NUMERIC);
            p.setNull(4, Types.TIMESTAMP);
            say("nulls", p.executeUpdate());
        }
    }

    static void prepared(Connection c) throws SQLException {
        try (PreparedStatement p = c.prepareStatement("SELECT ?::int + ?")) {
            long sum = 0;
            for (int i = 0; i < 20; i++) {
                p.setInt(1, i);
                p.setInt(2, 1);
                try (ResultSet r = p.executeQuery()) {
                    r.next();
                    sum += r.getInt(1);
                }
            }
            say("prepared", sum);
        }
    }

    static void batches(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute("CREATE TABLE batch (n INT, t TEXT)");
            s.addBatch("INSERT INTO batch VALUES (1, 'a')");
            s.addBatch("INSERT INTO batch VALUES (2, 'b')");
            s.addBatch("UPDATE batch SET t = 'c'");
            say("batch", Arrays.toString(s.executeBatch()));
        }
        c.setAutoCommit(false);
        try (PreparedStatement p = c.prepareStatement("INSERT INTO batch VALUES (?, ?)")) {
            for (int i = 0; i < 1000; i++) {
                p.setInt(1, i);
                p.setString(2, "t" + i);
                p.addBatch();
            }
            say("prepared batch", Arrays.stream(p.executeBatch()).sum());
        }
        c.commit();
        c.setAutoCommit(true);
        try (Statement s = c.createStatement()) {
            say("batched", text(s.executeQuery("SELECT count(*), sum(n) FROM batch")));
        }
    }

    static void transactions(Connection c) throws SQLException {
        c.setAutoCommit(false);
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        try (Statement s = c.createStatement()) {
            say("update", s.executeUpdate("UPDATE j SET name = 'x' WHERE id <= 3"));
            Savepoint point = c.setSavepoint("here");
            say("delete", s.executeUpdate("DELETE FROM j"));
            c.rollback(point);
            c.releaseSavepoint(point);
            say("inside", text(s.executeQuery("SELECT count(*) FROM j WHERE name = 'x'")));
            c.rollback();
            say("after", text(s.executeQuery("SELECT count(*) FROM j WHERE name = 'x'")));
            c.commit();
        }
        c.setReadOnly(true);
        try (Statement s = c.createStatement()) {
            s.executeUpdate("INSERT INTO batch VALUES (0, '')");
        } catch (SQLException e) {
            say("read only", e.getSQLState());
        }
        c.rollback();
        c.setReadOnly(false);
        c.setAutoCommit(true);
    }

    static void errors(Connection c) throws SQLException {
        for (String text : List.of("SELECT nosuch FROM j", "SELECT * FROM nowhere", "INSERT INTO j (id, name) VALUES (1, 'dup')",
                "INSERT INTO j (id) VALUES (1000)", "SELECT 1/0", "SELECT 'x'::int")) {
            try (Statement s = c.createStatement()) {
                s.execute(text);
            } catch (SQLException e) {
                say("error", e.getSQLState() + " " + e.getMessage().lines().findFirst().get());
            }
        }
        say("valid", c.isValid(5));
    }

    static void fetching(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.setFetchSize(100);
            try (ResultSet r = s.executeQuery("SELECT i FROM generate_series(1, 1050) AS g(i)")) {
                long sum = 0;
                while (r.next()) sum += r.getLong(1);
                say("fetched", sum);
            }
            s.setMaxRows(7);
            say("limited", text(s.executeQuery("SELECT i FROM generate_series(1, 1050) AS g(i)")));
        }
        c.commit();
        c.setAutoCommit(true);
    }

    static void live(Connection c, String url) throws Exception {
        var seen = new ArrayList<Integer>();
        try (Connection follower = DriverManager.getConnection(url); Statement s = follower.createStatement()) {
            follower.setAutoCommit(false);  // with a fetch size, rows are given as they come
            s.setFetchSize(1);
            try (Statement writer = c.createStatement()) {
                writer.execute("INSERT INTO events VALUES ('2024-01-01', 'a', 1), ('2024-01-02', 'b', 2)");
            }
            try (ResultSet r = s.executeQuery("SELECT n FROM events EMIT APPEND")) {
                while (seen.size() < 2 && r.next()) seen.add(r.getInt(1));
                int pid = follower.unwrap(org.postgresql.PGConnection.class).getBackendPID();
                Thread canceller = new Thread(() -> {
                    try (Statement watcher = c.createStatement()) {
                        String query = "SELECT state FROM pg_stat_activity WHERE pid = " + pid;
                        while (!text(watcher.executeQuery(query)).equals("active")) Thread.onSpinWait();
                        follower.unwrap(org.postgresql.PGConnection.class).cancelQuery();
                        // what waits for the third row; Statement.cancel() ends no fetch
                    } catch (SQLException e) {
                        throw new RuntimeException(e);
                    }
                });
                try (Statement watcher = c.createStatement()) {
                    String running = text(watcher.executeQuery("SHOW QUERIES"));
                    say("running", running.contains("live query"));
                }
                canceller.start();
                while (r.next()) seen.add(-1);
                say("cancelled", "no");
            } catch (SQLException e) {
                say("cancelled", e.getSQLState());
            }
            follower.rollback();
            try (Statement again = follower.createStatement()) {
                say("live", seen + " " + text(again.executeQuery("SELECT k, n FROM counts ORDER BY k")));
            }
            follower.commit();
        }
    }
}
