// An executor in JavaScript without dependencies: does one attempt at one task, for real as far as the contract goes.
//
// Environment: AGENTIC_OS_URL, AGENTIC_OS_CREDENTIAL (the executor's own), TASK_ID. Needs Node 20 for fetch.
// Exit codes: 0 handed in, 1 refused (the problem is printed), 2 the brief is not what its digest says.
import { createHash, randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

const { AGENTIC_OS_URL: url, AGENTIC_OS_CREDENTIAL: credential, TASK_ID: taskId } = process.env;
const digestOf = (content) => "sha256:" + createHash("sha256").update(content).digest("hex");
const NO_SKILLS = digestOf("");

// RFC 8785: members sorted by UTF-16 code units, which is how JavaScript sorts; the rest is what JSON.stringify does.
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${members.join(",")}}`;
}

function stop(code, words) {
  console.error(words);
  process.exit(code);
}

// The same bytes again after a network error, 429 or 5xx, and only then.
async function request(path, options, token) {
  let reason = "";
  for (const seconds of [1, 2, 4, 0]) {
    try {
      const headers = { Authorization: `Bearer ${token}`, ...options.headers };
      const answer = await fetch(url + path, { ...options, headers, redirect: "error" });
      const text = await answer.text();
      if (answer.ok) return text ? JSON.parse(text) : {};
      reason = `${path} answered ${answer.status}: ${text}`;
      if (answer.status < 500 && answer.status !== 429) break;
    } catch (error) {
      reason = `${path}: ${error.cause ?? error}`;
    }
    await pause(seconds * 1000);
  }
  return stop(1, reason);
}

const { attempt, digest, brief } = await request(`/api/tasks/${encodeURIComponent(taskId)}/brief`, {}, credential);
if (digestOf(canonical(brief)) !== digest) stop(2, `The brief is not what its digest ${digest} says.`);

let seq = 0;
function send(kind, body, token) {
  seq += 1;
  const callback = {
    contract: brief.contract,
    callback_id: randomUUID(),
    task_id: brief.task_id,
    attempt,
    seq,
    kind,
    occurred_at: new Date().toISOString(),
    body,
  };
  const headers = { "Content-Type": "application/json", "Idempotency-Key": callback.callback_id };
  return request("/api/executions/callback", { method: "POST", headers, body: JSON.stringify(callback) }, token);
}

const acknowledgement = {
  brief_digest: digest,
  skillset_digest: NO_SKILLS,
  runtime: { name: "node", version: process.versions.node },
};
const { attempt_token: token } = await send("ack", acknowledgement, credential);

async function submit() {
  if (brief.step === "plan") {
    return send("plan", {
      summary: `Write one line with JavaScript (attempt ${attempt}).`,
      steps: [{ id: "write", title: "Write the line", risk: "low" }],
      acceptance: brief.acceptance.map(({ id }) => ({ criterion_id: id, how: "look at the line that was written" })),
      responds_to: brief.review_items.map(({ id }) => ({ item_id: id, how: "The step says so." })),
    }, token);
  }
  if (brief.step !== "execute") {
    const message = `The step ${brief.step} is beyond this executor.`;
    return send("failure", { class: "internal", message, retryable: false }, token);
  }
  const directive = await send("progress", { message: "Writing the line.", fraction: 0.5 }, token);
  if (directive.directive !== "continue") stop(1, `The backend says ${directive.directive}.`);
  const line = Buffer.from("done by node\n");
  const artifact = {
    name: "line.txt",
    media_type: "text/plain",
    digest: digestOf(line),
    size: line.length,
    content_base64: line.toString("base64"),
  };
  return send("result", {
    outcome: "success",
    summary: "The line is written.",
    changes: ["line.txt: new"],
    artifacts: [artifact],
    evidence: brief.acceptance.map(({ id }) => ({
      criterion_id: id,
      rank: "observed",
      status: "pass",
      artifact: artifact.digest,
    })),
    responds_to: brief.review_items.map(({ id }) => ({ item_id: id, how: "The line says so." })),
  }, token);
}

const { phase } = await submit();
console.log(`${brief.step}: ${phase}`);
