import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { t } from "../state/words";
import { Icon, type IconName } from "./icons";

/** A labelled control, with a line of help that describes it. */
export function Field(props: {
  label: ComponentChildren;
  hint?: string;
  children: (control: { id: string; "aria-describedby"?: string }) => ComponentChildren;
}) {
  const id = useId();
  const described = props.hint ? { "aria-describedby": `${id}-hint` } : {};
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.children({ id, ...described })}
      {props.hint && <small id={`${id}-hint`}>{props.hint}</small>}
    </div>
  );
}

export function Range(props: {
  label: string;
  hint?: string;
  value: Signal<number>;
  min: number;
  max: number;
  step?: number;
  text?: (value: number) => string;
}) {
  const { label, hint, value, min, max, step = 1, text = String } = props;
  const shown = (
    <>
      {label} <output>{text(value.value)}</output>
    </>
  );
  return (
    <Field label={shown} {...(hint ? { hint } : {})}>
      {(control) => (
        <input
          {...control}
          type="range"
          min={min}
          max={max}
          step={step}
          value={value.value}
          onInput={(event) => (value.value = Number(event.currentTarget.value))}
        />
      )}
    </Field>
  );
}

/** A choice of a list; as a pill its name stands in it. */
export function Choice(props: {
  label: string;
  value: string;
  among: readonly { value: string; text: string }[];
  chosen: (value: string) => void;
  hint?: string;
  pill?: boolean;
}) {
  const select = (control: object) => (
    <select {...control} value={props.value} onChange={(event) => props.chosen(event.currentTarget.value)}>
      {props.among.map((one) => (
        <option key={one.value} value={one.value}>
          {one.text}
        </option>
      ))}
    </select>
  );
  if (props.pill) {
    return (
      <label class="pill">
        <span aria-hidden="true">{props.label}</span>
        {select({ "aria-label": props.label })}
      </label>
    );
  }
  return (
    <Field label={props.label} {...(props.hint ? { hint: props.hint } : {})}>
      {select}
    </Field>
  );
}

/** A text that Enter sends; while an input method composes, Enter belongs to it. */
export function Prompt(props: {
  label: string;
  value: Signal<string>;
  send: () => void;
  rows?: number;
  describedBy?: string | undefined;
}) {
  const { label, value, send, rows = 2, describedBy } = props;
  return (
    <textarea
      class="prompt"
      rows={rows}
      aria-label={label}
      placeholder={label}
      value={value.value}
      {...(describedBy ? { "aria-describedby": describedBy } : {})}
      onInput={(event) => (value.value = event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
          event.preventDefault();
          send();
        }
      }}
    />
  );
}

/** Lets a person choose a picture's file. */
export function FileButton(props: { label: string; chosen: (file: File) => void; icon?: IconName }) {
  return (
    <label class="button">
      <Icon name={props.icon ?? "upload"} />
      {props.label}
      <input
        class="hidden"
        type="file"
        accept="image/*"
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          event.currentTarget.value = "";
          if (file) props.chosen(file);
        }}
      />
    </label>
  );
}

/** A button that is an icon, with its name for those who do not see it. */
export function IconButton(props: {
  icon: IconName;
  label: string;
  onClick: () => void;
  pressed?: boolean;
  disabled?: boolean;
  filled?: boolean;
  class?: string;
}) {
  return (
    <button
      type="button"
      class={`quiet ${props.class ?? ""}`}
      aria-label={props.label}
      title={props.label}
      disabled={props.disabled ?? false}
      {...(props.pressed === undefined ? {} : { "aria-pressed": props.pressed })}
      onClick={props.onClick}
    >
      <Icon name={props.icon} filled={props.filled ?? false} />
    </button>
  );
}

/** One of a few, side by side. */
export function Segments<Name extends string>(props: {
  label: string;
  among: readonly { value: Name; text: string }[];
  value: Name;
  chosen: (value: Name) => void;
}) {
  return (
    <div class="segments" role="group" aria-label={props.label}>
      {props.among.map((one) => (
        <button
          key={one.value}
          type="button"
          aria-pressed={props.value === one.value}
          onClick={() => props.chosen(one.value)}
        >
          {one.text}
        </button>
      ))}
    </div>
  );
}

/** What the server refused, in its words. */
export function Refusal({ id, refused }: { id: string; refused: { message: string; code: string | null } | null }) {
  if (!refused) return null;
  const policy = refused.code === "content_policy_violation";
  return (
    <p id={id} class="refusal" role="alert">
      <strong>{policy ? t("refused.policy") : t("refused.other")}</strong> {refused.message}
    </p>
  );
}
