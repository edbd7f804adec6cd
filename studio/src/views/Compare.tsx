import { signal } from "@preact/signals";
import { Fragment } from "preact";
import * as api from "../api/client";
import { comparing } from "../state/selection";
import { settingOf, t } from "../state/words";
import { Dialog } from "./Dialog";
import { Segments } from "./fields";
import { Split } from "./Split";

const at = signal(50);
const way = signal<"beside" | "over">("beside");

/** What two recipes do not share: the setting, and its two values. */
function differences(one: api.Picture, other: api.Picture): [string, string, string][] {
  const rows = ({ prompt, model, seed, settings }: api.Picture): Record<string, string> => ({
    prompt,
    model,
    seed: String(seed),
    ...settings,
  });
  const [left, right] = [rows(one), rows(other)];
  const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
  return names
    .filter((name) => left[name] !== right[name])
    .map((name) => [settingOf(name), left[name] ?? "–", right[name] ?? "–"]);
}

export function Compare() {
  const two = comparing.value;
  return (
    <Dialog open={two !== null} close={() => (comparing.value = null)} label={t("select.compare")} class="compare">
      {two && (
        <>
          <Segments
            label={t("select.compare")}
            among={[
              { value: "beside", text: t("compare.beside") },
              { value: "over", text: t("compare.over") },
            ]}
            value={way.value}
            chosen={(name) => (way.value = name)}
          />
          {way.value === "over" ? (
            <Split
              before={api.fileOf(two[0].id)}
              after={api.fileOf(two[1].id)}
              names={[two[0].prompt, two[1].prompt]}
              at={at}
            />
          ) : (
            <div class="pair">
              {two.map((one) => (
                <img key={one.id} src={api.fileOf(one.id)} alt={t("picture.alt", { prompt: one.prompt })} />
              ))}
            </div>
          )}
          <table class="differences">
            <caption class="hidden">{t("compare.differences")}</caption>
            <tbody>
              {differences(...two).map(([name, left, right]) => (
                <Fragment key={name}>
                  <tr>
                    <th scope="row">{name}</th>
                    <td>{left}</td>
                    <td>{right}</td>
                  </tr>
                </Fragment>
              ))}
            </tbody>
          </table>
        </>
      )}
    </Dialog>
  );
}
