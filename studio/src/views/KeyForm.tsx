import { signal } from "@preact/signals";
import * as api from "../api/client";
import { attempt, keyWanted, loadModels, notice } from "../state/app";
import { recall } from "../state/jobs";
import { t } from "../state/words";

const key = signal("");

async function logIn(): Promise<void> {
  const found = await attempt(() => api.login(key.value.trim()));
  if (found === undefined) return;
  key.value = "";
  keyWanted.value = false;
  notice.value = null;
  await loadModels();
  await recall();
}

export function KeyForm() {
  return (
    <form
      class="card key"
      onSubmit={(event) => {
        event.preventDefault();
        void logIn();
      }}
    >
      <h1>{t("app.key")}</h1>
      <input
        type="password"
        autocomplete="current-password"
        aria-label={t("app.key")}
        value={key.value}
        onInput={(event) => (key.value = event.currentTarget.value)}
      />
      <button type="submit" class="primary">
        {t("app.login")}
      </button>
    </form>
  );
}
