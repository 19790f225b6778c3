// Dominator and retained size of nodes by memlab: node heap_memlab.js SNAPSHOT ID... (ids on stdin, one JSON array)
const path = require("path");
const core = require(path.join(process.env.LEAKHARNESS_NODE_MODULES, "@memlab/core"));
const ids = JSON.parse(require("fs").readFileSync(0, "utf8"));
(async () => {
  core.config.muteConsole = true;
  const heap = await core.utils.getSnapshotFromFile(process.argv[2], { buildNodeIdIndex: true });
  core.analysis.preparePathFinder(heap);
  const rows = ids.map((id) => {
    const node = heap.getNodeById(id);
    return [id, node.name, node.self_size, node.dominatorNode ? node.dominatorNode.id : null, Number(node.retainedSize)];
  });
  process.stdout.write("\n@@" + JSON.stringify({ nodes: heap.nodes.length, rows }) + "\n");
})();
