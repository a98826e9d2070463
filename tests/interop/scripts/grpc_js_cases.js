// @grpc/grpc-js with @grpc/proto-loader, and Node's own fetch for REST.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");

const servers = JSON.parse(process.argv[2]);
const load = (name) => require(path.join(servers.home, "node", "node_modules", name));
const grpc = load("@grpc/grpc-js");
const loader = load("@grpc/proto-loader");

const CATS = ["tiger cat", "Egyptian cat", "tabby"];
const LONGEST_MS = 60000;
const OPTIONS = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };

function loaded(file) {
  return grpc.loadPackageDefinition(loader.loadSync(path.join(servers.protos, file), OPTIONS));
}

function inference(where, options = {}) {
  const { GRPCInferenceService } = loaded("open_inference.proto").inference;
  return new GRPCInferenceService(where, grpc.credentials.createInsecure(), options);
}

function call(client, method, request, options = {}) {
  const deadline = new Date(Date.now() + 20000);
  return new Promise((resolve, reject) => {
    client[method](request, { deadline, ...options }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

function tensor(value, id = "") {
  const pixels = new Float32Array(3 * 224 * 224).fill(value);
  return {
    model_name: servers.model,
    id,
    inputs: [{ name: "input", datatype: "FP32", shape: [1, 3, 224, 224] }],
    raw_input_contents: [Buffer.from(pixels.buffer)],
  };
}

const first = (answer) => answer.raw_output_contents[0].readFloatLE(0);

const cases = {
  async works_health_metadata_and_configuration() {
    const client = inference(servers.grpc);
    assert.strictEqual((await call(client, "ServerLive", {})).live, true);
    assert.strictEqual((await call(client, "ServerReady", {})).ready, true);
    const metadata = await call(client, "ModelMetadata", { name: servers.model });
    assert.deepStrictEqual(metadata.inputs[0].shape, [-1, 3, 224, 224]);
    const { config } = await call(client, "ModelConfig", { name: servers.model });
    assert.strictEqual(config.input[0].data_type, "TYPE_FP32");
    client.close();
  },

  async works_inference() {
    const client = inference(servers.grpc);
    const answer = await call(client, "ModelInfer", tensor(5, "seven"));
    assert.strictEqual(answer.id, "seven");
    assert.strictEqual(first(answer), 5);
    client.close();
  },

  async works_compression() {
    for (const algorithm of [1, 2]) {
      const client = inference(servers.grpc, { "grpc.default_compression_algorithm": algorithm });
      assert.strictEqual(first(await call(client, "ModelInfer", tensor(6))), 6);
      client.close();
    }
  },

  async works_many_calls_at_once() {
    const client = inference(servers.grpc);
    const numbers = [...Array(30).keys()];
    const answers = await Promise.all(numbers.map((n) => call(client, "ModelInfer", tensor(n))));
    assert.deepStrictEqual(answers.map(first), numbers);
    client.close();
  },

  async works_a_stream() {
    const client = inference(servers.grpc);
    const stream = client.ModelStreamInfer();
    const found = await new Promise((resolve, reject) => {
      const answers = {};
      stream.on("data", (message) => {
        const response = message.infer_response;
        answers[response.id] = message.error_message || first(response);
      });
      stream.on("error", reject);
      stream.on("end", () => resolve(answers));
      for (let n = 0; n < 5; n += 1) stream.write(tensor(n, String(n)));
      stream.write({ ...tensor(1, "bad"), model_name: "nobody" });
      stream.end();
    });
    for (let n = 0; n < 5; n += 1) assert.strictEqual(found[n], n);
    assert.match(found.bad, /no model 'nobody'/);
    client.close();
  },

  async works_a_picture() {
    const client = inference(servers.cats_grpc);
    const answer = await call(client, "ModelInfer", {
      model_name: servers.cats_model,
      inputs: [
        {
          name: "input",
          datatype: "BYTES",
          shape: [1],
          contents: { bytes_contents: [fs.readFileSync(servers.picture)] },
        },
      ],
      parameters: { classification: { int64_param: 1 } },
    });
    const label = answer.raw_output_contents[0].subarray(4).toString().split(":")[2];
    assert.ok(CATS.includes(label), label);
    client.close();
  },

  async works_deadlines_cancelling_and_errors() {
    const client = inference(servers.grpc);
    const past = new Date(Date.now() + 1);
    const late = await call(client, "ModelInfer", tensor(1), { deadline: past }).catch((e) => e);
    assert.strictEqual(late.code, grpc.status.DEADLINE_EXCEEDED);
    const missing = await call(client, "ModelReady", { name: "nobody" }).catch((e) => e);
    assert.strictEqual(missing.code, grpc.status.NOT_FOUND);
    assert.match(missing.details, /this server has/);
    const cancelled = await new Promise((resolve) => {
      client.ModelInfer(tensor(1), (error) => resolve(error)).cancel();
    });
    assert.strictEqual(cancelled.code, grpc.status.CANCELLED);
    client.close();
  },

  async works_health_and_its_watch() {
    const { Health } = loaded("health.proto").grpc.health.v1;
    const client = new Health(servers.grpc, grpc.credentials.createInsecure());
    assert.strictEqual((await call(client, "Check", { service: "" })).status, "SERVING");
    const watch = client.Watch({ service: "" });
    const status = await new Promise((resolve, reject) => {
      watch.on("data", (message) => resolve(message.status));
      watch.on("error", reject);
    });
    assert.strictEqual(status, "SERVING");
    watch.on("error", () => {});
    watch.cancel();
    client.close();
  },

  async works_fetch_over_rest() {
    const where = `http://${servers.cats_http}/v2/models/${servers.cats_model}/classify?k=2`;
    const body = fs.readFileSync(servers.picture);
    const answer = await fetch(where, { method: "POST", body });
    const { labels } = await answer.json();
    assert.ok(CATS.includes(labels[0].label));
    const refused = await fetch(`http://${servers.http}/v2/models/nobody`);
    assert.strictEqual(refused.status, 404);
  },
};

async function main() {
  for (const [name, run] of Object.entries(cases)) {
    let wrong = null;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${LONGEST_MS} ms`)), LONGEST_MS);
    });
    try {
      await Promise.race([run(), late]);
    } catch (error) {
      wrong = error.stack || String(error);
    }
    clearTimeout(timer);
    console.log(JSON.stringify({ case: name, wrong }));
  }
  process.exit(0);
}

main();
