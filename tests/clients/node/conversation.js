// What users of node-postgres do. Prints "section: value" lines, which test_node.py holds against what must come out.

const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");
const { from, to } = require("pg-copy-streams");
const { pipeline } = require("node:stream/promises");
const { Readable } = require("node:stream");

const say = (section, value) => console.log(`${section}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
const options = { host: "127.0.0.1", port: Number(process.argv[2]), user: "tester", database: "streamsql" };

async function values(client) {
  await client.query("CREATE TABLE n (id INT PRIMARY KEY, t TEXT, x NUMERIC(10,2), at TIMESTAMPTZ, b BOOLEAN, doc JSONB, "
    + "tags TEXT[], raw BYTEA, f DOUBLE PRECISION, l BIGINT)");
  const row = [1, "Käse ☃", "1.50", new Date(Date.UTC(2024, 1, 29, 12)), true, { a: [1, null] }, ["a", null, "b,c"],
    Buffer.from([0, 255]), 0.25, "9223372036854775807"];
  const inserted = await client.query("INSERT INTO n VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", row);
  say("inserted", `${inserted.command} ${inserted.rowCount}`);
  await client.query("INSERT INTO n (id, t) VALUES ($1, $2)", [2, null]);
  const found = await client.query("SELECT * FROM n ORDER BY id");
  const first = found.rows[0];
  say("values", { ...first, raw: first.raw.toString("hex") });
  say("nulls", Object.values(found.rows[1]).filter((v) => v !== null).length);
  say("fields", found.fields.map((f) => f.dataTypeID));
  const array = await client.query({ text: "SELECT t, $1::int FROM n WHERE id = ANY($2)", values: [5, [1]], rowMode: "array" });
  say("array", array.rows);
}

async function prepared(client) {
  let sum = 0;
  for (let i = 0; i < 10; i++) {
    const found = await client.query({ name: "add", text: "SELECT $1::int + $2::int AS sum", values: [i, 1] });
    sum += found.rows[0].sum;
  }
  say("prepared", sum);
}

async function transactions(client) {
  await client.query("BEGIN");
  await client.query("UPDATE n SET t = $1 WHERE id = $2", ["x", 1]);
  try {
    await client.query("SELECT nosuch FROM n");
  } catch (error) {
    say("error", `${error.code} ${error.position} ${error.message}`);
  }
  try {
    await client.query("SELECT 1");
  } catch (error) {
    say("aborted", error.code);
  }
  await client.query("ROLLBACK");
  say("rolled back", (await client.query("SELECT count(*)::int AS c FROM n WHERE t = 'x'")).rows[0].c);
  const both = await client.query("SELECT 1 AS a; SELECT 2 AS b");
  say("several", both.map((r) => r.rows[0]));
}

async function streams(client) {
  const read = client.query(new QueryStream("SELECT i FROM generate_series(1, $1) AS g(i)", [1050], { batchSize: 100 }));
  let sum = 0;
  for await (const row of read) sum += Number(row.i);
  say("streamed", sum);
  const cursor = client.query(new Cursor("SELECT i::int FROM generate_series(1, 10) AS g(i)"));
  const some = await cursor.read(3);
  await cursor.close();
  say("cursor", some.map((row) => row.i));
  await client.query("CREATE TABLE copied_n (n INT, t TEXT)");
  await pipeline(Readable.from(["1\ta\n2\t\\N\n"]), client.query(from("COPY copied_n FROM STDIN")));
  const parts = [];
  for await (const part of client.query(to("COPY (SELECT * FROM copied_n ORDER BY n) TO STDOUT (FORMAT csv)"))) parts.push(part);
  say("copied", Buffer.concat(parts).toString().trim().replace("\n", " "));
}

async function live(client) {
  await client.query("CREATE STREAM live_n (n INT)");
  const follower = new Client(options);
  await follower.connect();
  const rows = follower.query(new QueryStream("SELECT n FROM live_n WHERE n > $1 EMIT APPEND", [0], { batchSize: 1 }));
  const seen = [];
  const reading = (async () => {
    for await (const row of rows) {
      seen.push(row.n);
      if (seen.length === 3) break; // which closes the portal
    }
  })();
  const begun = "SELECT count(*)::int AS c FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT n FROM live_n%'";
  while ((await client.query(begun)).rows[0].c === 0);
  for (let n = 0; n < 5; n++) await client.query("INSERT INTO live_n VALUES ($1)", [n]);
  await reading;
  say("live", seen);
  await follower.end();
}

async function pools() {
  const pool = new Pool({ ...options, max: 4, statement_timeout: 30000, application_name: "pool" });
  const found = await Promise.all([...Array(20).keys()].map((i) => pool.query("SELECT $1::int * 2 AS d", [i])));
  say("pool", found.reduce((sum, r) => sum + r.rows[0].d, 0));
  await pool.end();
  const cancelled = new Client({ ...options, statement_timeout: 50 });
  await cancelled.connect();
  try {
    await cancelled.query("SELECT n FROM live_n EMIT APPEND");
  } catch (error) {
    say("timeout", error.code);
  }
  say("usable", (await cancelled.query("SELECT 1 AS one")).rows);
  await cancelled.end();
}

(async () => {
  const client = new Client(options);
  await client.connect();
  for (const part of [values, prepared, transactions, streams, live]) await part(client);
  await pools();
  await client.end();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
