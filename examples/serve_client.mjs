// Draw by a server, with OpenAI's client. `unclip serve` has to run.
import { writeFileSync } from "node:fs";
import OpenAI from "openai";

const address = process.env.UNCLIP_SERVER ?? "http://127.0.0.1:8000";
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: process.env.UNCLIP_KEY ?? "none" });

// whatever else `unclip generate` takes stands beside: here the seed
const answer = await client.images.generate({ model: "pictograms", prompt: "a red apple", n: 2, seed: 1 });
answer.data.forEach((item, number) => {
  writeFileSync(`drawn-${number}.png`, Buffer.from(item.b64_json, "base64"));
  console.log(`drawn-${number}.png`);
});
