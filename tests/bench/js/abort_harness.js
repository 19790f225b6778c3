// The shape of a harness under node, to time beside ours: runs that are aborted, a finalization registry, a snapshot
// between batches.
// usage: node --expose-gc abort_harness.js extracted|inline [FOLDER-FOR-SNAPSHOTS]
"use strict";
const v8 = require("node:v8");

const [mode, folder] = process.argv.slice(2);
const ITERS = 50;
const BATCHES = 5;
const SCOPE_BYTES = 2_000_000;
const wedged = [];
let born = 0;
let collected = 0;
const registry = new FinalizationRegistry(() => {
  collected += 1;
});

function abortable(promise, signal) {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}

async function run() {
  const transcript = Buffer.alloc(SCOPE_BYTES, 1);
  const tools = Buffer.alloc(SCOPE_BYTES / 4, 1);
  registry.register(transcript);
  born += 1;
  const controller = new AbortController();
  const stuck = new Promise((resolve) => wedged.push(resolve));
  const inline = (promise, signal) =>
    new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      promise.then(() => resolve([transcript, tools]), reject);
    });
  const waiting = (mode === "inline" ? inline : abortable)(stuck, controller.signal);
  wedged.push(stuck);
  controller.abort(new Error("aborted"));
  await waiting.catch(() => tools.length);
}

async function settle(label) {
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    globalThis.gc();
  }
  if (folder) v8.writeHeapSnapshot(`${folder}/${label}-${process.pid}.heapsnapshot`);
}

(async () => {
  await settle("baseline");
  for (let batch = 1; batch <= BATCHES; batch += 1) {
    for (let i = 0; i < ITERS; i += 1) await run();
    await settle(`batch-${batch}`);
  }
  const retained = born - collected;
  console.log(`${retained > 16 ? "FAIL" : "PASS"}: ${retained}/${born} retained`);
  process.exit(retained > 16 ? 1 : 0);
})();
