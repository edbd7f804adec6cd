import { Fragment } from "preact";
import { helpOpen } from "../state/app";
import { t } from "../state/words";
import { Dialog } from "./Dialog";

const GROUPS = [
  {
    title: "keys.everywhere",
    keys: [
      ["1 – 6", "keys.views"],
      ["Enter", "keys.draw"],
      ["?", "keys.help"],
      ["Esc", "keys.close"],
    ],
  },
  {
    title: "nav.canvas",
    keys: [
      ["B E R L", "keys.tools"],
      ["[ ]", "keys.brush"],
      ["Ctrl Z · Ctrl Y", "keys.undo"],
      ["I", "keys.invert"],
      ["+ − 0", "keys.zoom"],
      ["Space", "keys.pan"],
      ["Alt", "keys.alt"],
    ],
  },
  {
    title: "nav.library",
    keys: [
      ["← → ↑ ↓", "keys.move"],
      ["/", "keys.search"],
      ["X", "keys.select"],
      ["S", "keys.star"],
      ["Del", "keys.delete"],
    ],
  },
] as const;

export function Help() {
  return (
    <Dialog open={helpOpen.value} close={() => (helpOpen.value = false)} label={t("app.shortcuts")} class="help">
      <h2>{t("app.shortcuts")}</h2>
      <div class="groups">
        {GROUPS.map((group) => (
          <section key={group.title}>
            <h3>{t(group.title)}</h3>
            <dl>
              {group.keys.map(([keys, what]) => (
                <Fragment key={keys}>
                  <dt>
                    <kbd>{keys}</kbd>
                  </dt>
                  <dd>{t(what)}</dd>
                </Fragment>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
