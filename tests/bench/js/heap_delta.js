// Whole-file JSON.parse twin of the diff, for comparing figures and speed.
const fs = require("fs");
function load(path) {
  const snap = JSON.parse(fs.readFileSync(path, "utf8"));
  const { node_fields: fields, node_types: types } = snap.snapshot.meta;
  const [t, n, s, w] = [fields.indexOf("type"), fields.indexOf("name"), fields.indexOf("self_size"), fields.length];
  const groups = new Map();
  for (let i = 0; i < snap.nodes.length; i += w) {
    const type = types[t][snap.nodes[i + t]], name = snap.strings[snap.nodes[i + n]];
    const key = type + "\t" + name;
    let g = groups.get(key);
    if (!g) groups.set(key, (g = { type, name, size: 0, count: 0 }));
    g.size += snap.nodes[i + s];
    g.count += 1;
  }
  return { groups, nodes: snap.nodes.length / w };
}
const [before, after, top, minKb] = [process.argv[2], process.argv[3], +process.argv[4], +process.argv[5]];
const started = process.hrtime.bigint();
const a = load(before), b = load(after);
const rows = [];
for (const [key, g] of b.groups) {
  const old = a.groups.get(key) || { size: 0, count: 0 };
  if (g.size - old.size >= minKb * 1024) {
    rows.push({ type: g.type, name: g.name, size_delta: g.size - old.size, count_delta: g.count - old.count });
  }
}
rows.sort((x, y) => y.size_delta - x.size_delta || y.count_delta - x.count_delta);
const seconds = Number(process.hrtime.bigint() - started) / 1e9;
console.log(JSON.stringify({ nodes: [a.nodes, b.nodes], rows: rows.slice(0, top), seconds }));
