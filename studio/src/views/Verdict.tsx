import type { Origin } from "../api/client";
import type { Key } from "../languages/en";
import { t } from "../state/words";
import { Icon } from "./icons";

const GOOD = ["trusted", "unknown-key"];
const BAD = ["altered", "broken"];
const WORDS: Readonly<Record<string, Key>> = {
  trusted: "proof.trusted",
  "unknown-key": "proof.unknown",
  altered: "proof.altered",
  broken: "proof.broken",
  marked: "proof.marked",
  labelled: "proof.labelled",
  settings: "proof.settings",
  nothing: "proof.nothing",
};

/** Where a picture came from, and how far that is proved. */
export function Verdict({ origin }: { origin: Origin }) {
  const kind = GOOD.includes(origin.proof) ? "good" : BAD.includes(origin.proof) ? "bad" : "plain";
  const words = WORDS[origin.proof];
  return (
    <div class={`verdict ${kind}`} role="status">
      <Icon name="shield" />
      <p>
        <strong>{origin.proof}</strong>
        {origin.signer && ` · ${origin.signer}`}
        <br />
        {words && t(words)}
        {origin.detail && ` (${origin.detail})`}
        {origin.watermark && ` unclip ${origin.watermark.version.join(".")}, ${origin.watermark.weights}`}
      </p>
    </div>
  );
}
