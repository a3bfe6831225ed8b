// A client of another language: calls Probe and Detect and prints the answers as JSON.
// Usage: node client.mjs INGEST_ADDRESS DETECTOR_ADDRESS ASSET_KEY RGB_FILE WIDTH HEIGHT
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [ingestAddress, detectorAddress, assetKey, rgbFile, width, height] = process.argv.slice(2);
const protos = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "protos");

function load(name) {
  const definition = loader.loadSync(`masquerade/v1/${name}.proto`, {
    includeDirs: [protos],
    keepCase: true,
    longs: Number,
    defaults: true,
    oneofs: true,
  });
  return grpc.loadPackageDefinition(definition).masquerade.v1;
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 20_000);
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

const credentials = grpc.credentials.createInsecure();
const ingest = new (load("ingest").IngestService)(ingestAddress, credentials);
const detector = new (load("detector").DetectorService)(detectorAddress, credentials);

const probe = await call(ingest, "Probe", { asset_key: assetKey });
const detect = await call(detector, "Detect", {
  frames: {
    first_index: 0,
    pts: [0],
    width: Number(width),
    height: Number(height),
    format: "PIXEL_FORMAT_RGB24",
    payload: { inline: readFileSync(rgbFile) },
  },
});
let refusal = null;
try {
  await call(ingest, "Probe", { asset_key: "local/assets/absent" });
} catch (error) {
  refusal = { code: error.code, details: error.details };
}
console.log(JSON.stringify({ info: probe.info, faces: detect.frames[0].faces.length, refusal }));
ingest.close();
detector.close();
