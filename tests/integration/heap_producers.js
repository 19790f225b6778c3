// Snapshots of V8's producers: node heap_producers.js KIND OUT
// KIND: stores, numbers (values of numbers), tracked (allocation stacks and a time line), worker (a worker thread's own
// heap), chrome and chrome-tracked (CHROMIUM by playwright-core of LEAKHARNESS_NODE_MODULES).
const fs = require("fs"), path = require("path"), v8 = require("v8");
const [kind, out] = process.argv.slice(2);

function fill(scope) {
  class Entry { constructor(i) { this.i = i; this.body = new Array(20).fill(i + 0.5); } }
  class Key { constructor(i) { this.i = i; } }
  class Value { constructor(key) { this.key = key; this.rows = new Array(50).fill(1.5); } }
  class Link { constructor(next) { this.next = next; } }
  const kept = { map: new Map(), set: new Set(), dict: {}, list: null, keys: [], weak: new WeakMap(), other: new WeakMap(),
    refs: [], calls: [], text: [], pending: [], symbols: {}, big: [], buffers: [], proxies: [] };
  for (let i = 0; i < 400; i++) {
    const key = new Key(i), entry = new Entry(i);
    kept.map.set("k" + i, entry); kept.set.add(new Entry(-i)); kept.dict["d" + i] = { i };
    kept.list = new Link(kept.list); kept.keys.push(key); kept.weak.set(key, new Value(key));
    if (i % 3 === 0) kept.other.set(key, new Value(entry));
    if (i % 5 === 0) kept.weak.set(new Value(key), kept.weak.get(key)); // dies with its key
    if (i % 7 === 0) kept.other.set(kept.weak.get(key), new Value(null)); // a value that is a key
    kept.refs.push(new WeakRef(entry)); kept.calls.push(() => entry.i + i);
    kept.text.push("some text " + i, ("abc" + i).repeat(9).slice(3, 20)); kept.symbols[Symbol("s" + i)] = i;
    kept.big.push(BigInt(i) ** 40n); kept.buffers.push(new Uint8Array(i)); kept.proxies.push(new Proxy({ i }, {}));
    kept.pending.push((async () => { const local = new Entry(i); await new Promise(() => 0); return local; })());
  }
  delete kept.dict.d3;
  scope.kept = kept;
}

async function tracked(file) {
  const inspector = require("inspector"), session = new inspector.Session(), out = fs.openSync(file, "w");
  session.connect();
  const post = (method, given) => new Promise((done, failed) =>
    session.post(method, given, (error, result) => (error ? failed(error) : done(result))));
  session.on("HeapProfiler.addHeapSnapshotChunk", (message) => fs.writeSync(out, message.params.chunk));
  await post("HeapProfiler.startTrackingHeapObjects", { trackAllocations: true });
  fill(globalThis);
  await post("HeapProfiler.stopTrackingHeapObjects", {});
  fs.closeSync(out);
}

async function chrome(file, track) {
  const { chromium } = require(path.join(process.env.LEAKHARNESS_NODE_MODULES, "playwright-core"));
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const page = await browser.newPage(), client = await page.context().newCDPSession(page), out = fs.openSync(file, "w");
  await page.setContent("<div id=a><ul><li>1<li>2</ul></div>");
  client.on("HeapProfiler.addHeapSnapshotChunk", ({ chunk }) => fs.writeSync(out, chunk));
  if (track) await client.send("HeapProfiler.startTrackingHeapObjects", { trackAllocations: true });
  await page.evaluate(`(${fill})(globalThis)`);
  await page.evaluate(() => {
    globalThis.gone = [];
    for (let i = 0; i < 50; i++) {
      const div = document.createElement("div"); div.append(document.createElement("span"));
      document.body.append(div); globalThis.gone.push(div); div.remove();
    }
  });
  if (track) await client.send("HeapProfiler.stopTrackingHeapObjects", { captureNumericValue: true });
  else await client.send("HeapProfiler.takeHeapSnapshot", {});
  fs.closeSync(out);
  await browser.close();
}

(async () => {
  if (kind === "stores" || kind === "numbers") {
    fill(globalThis);
    v8.writeHeapSnapshot(out, kind === "numbers" ? { exposeNumericValues: true, exposeInternals: true } : {});
  } else if (kind === "worker") {
    const { Worker } = require("worker_threads");
    const code = `(${fill})(globalThis); require("v8").writeHeapSnapshot(${JSON.stringify(out)})`;
    await new Promise((done, failed) => new Worker(code, { eval: true }).on("exit", done).on("error", failed));
  } else if (kind === "tracked") await tracked(out);
  else await chrome(out, kind === "chrome-tracked");
})();
