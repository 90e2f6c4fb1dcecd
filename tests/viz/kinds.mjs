// Runs the mathematics of explorers in Node, without a page. Reads {scripts: [path], kind, spec, jobs: [{state} or
// {call, arguments}]} from stdin, writes one answer for each job. In arguments the text "spec" stands for the spec.
import { readFileSync } from "node:fs";
import { runInThisContext } from "node:vm";

const job = JSON.parse(readFileSync(0, "utf8"));
for (const path of job.scripts) runInThisContext(readFileSync(path, "utf8"), path);
const ak = globalThis.attnkitExplorer, kind = ak.kinds[job.kind], spec = ak.math.unpack(job.spec);
const plain = (name, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value === -Infinity ? "-Infinity" : value);
const answers = job.jobs.map((one) => {
  if (one.call) return (kind[one.call] || ak.math[one.call])(...one.arguments.map((a) => (a === "spec" ? spec : a)));
  return kind.compute(spec, Object.assign({}, kind.initial(spec), one.state));
});
process.stdout.write(JSON.stringify(answers, plain));
