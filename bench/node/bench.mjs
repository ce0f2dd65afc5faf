// Peers on Node, answering a line of JSON for every line of JSON on the standard
// input:
//   {"ms": 500, "callers": 32}  ->  {"calls": 290, "ms": 503.1, "p50": 52.3, "p99": 68.9}
// Times are milliseconds. The first line it writes is {"ready": true}. It ends
// with its input. Usage:
//   node bench.mjs better-auth-sqlite DATABASE-FILE KEYS
//   node bench.mjs better-auth-pg SOCKET-DIRECTORY DATABASE KEYS CONNECTIONS
//   node bench.mjs limiter-pg SOCKET-DIRECTORY DATABASE KEYS CONNECTIONS
import { createInterface } from "node:readline";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { apiKey } from "@better-auth/api-key";
import Database from "better-sqlite3";
import pg from "pg";
import { RateLimiterPostgres } from "rate-limiter-flexible";

const pool = (host, database, max) => new pg.Pool({ host, database, user: "postgres", max: Number(max) });

// better-auth: a call verifies a random key and takes 1 from what remains to it.
async function better(database, count, made = () => {}) {
  const auth = betterAuth({
    baseURL: "http://127.0.0.1",
    secret: "a secret for nothing but this benchmark",
    telemetry: { enabled: false },
    logger: { disabled: true },
    emailAndPassword: { enabled: true },
    plugins: [apiKey({ rateLimit: { enabled: false } })],
    database,
  });
  await (await getMigrations(auth.options)).runMigrations();
  const { user } = await auth.api.signUpEmail({
    body: { name: "Acme", email: "acme@example.com", password: "only for this benchmark" },
  });
  const keys = [];
  for (let i = 0; i < count; i++) {
    const { key } = await auth.api.createApiKey({ body: { userId: user.id, name: "key", remaining: 1e9 } });
    keys.push(key);
  }
  made();
  return async () => {
    const key = keys[Math.floor(Math.random() * keys.length)];
    const answer = await auth.api.verifyApiKey({ body: { key } });
    if (!answer.valid) throw new Error(JSON.stringify(answer.error));
  };
}

const peers = {
  async "better-auth-sqlite"(file, count) {
    const database = new Database(file);
    database.pragma("journal_mode = WAL");
    database.pragma("synchronous = OFF"); // the setup need not be durable
    return better(database, Number(count), () => database.pragma("synchronous = FULL")); // durable before the answer
  },
  async "better-auth-pg"(host, name, count, connections) {
    return better(pool(host, name, connections), Number(count));
  },
  // One level of the three, and neither a key is checked nor usage counted.
  async "limiter-pg"(host, name, count, connections) {
    const storeClient = pool(host, name, connections);
    const limiter = await new Promise((ok, no) => {
      const l = new RateLimiterPostgres({ storeClient, points: 1e9, duration: 86400 }, (e) => (e ? no(e) : ok(l)));
    });
    return () => limiter.consume("key" + Math.floor(Math.random() * Number(count)));
  },
};

const [peer, ...args] = process.argv.slice(2);
const call = await peers[peer](...args);

async function round({ ms, callers }) {
  const took = [];
  const start = performance.now();
  await Promise.all(Array.from({ length: callers }, async () => {
    for (let from; (from = performance.now()) < start + ms; ) {
      await call();
      took.push(performance.now() - from);
    }
  }));
  const elapsed = performance.now() - start;
  took.sort((a, b) => a - b);
  const at = (q) => took[Math.floor(q * took.length)] ?? 0;
  return { calls: took.length, ms: elapsed, p50: at(0.5), p99: at(0.99) };
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await round(JSON.parse(line))));
}
process.exit(0); // pools keep it alive
