import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

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
}) {
  const { label, hint, value, min, max, step = 1 } = props;
  const shown = (
    <>
      {label} <output>{value.value}</output>
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

export function NumberField({ label, hint, value }: { label: string; hint?: string; value: Signal<string> }) {
  return (
    <Field label={label} {...(hint ? { hint } : {})}>
      {(control) => (
        <input
          {...control}
          inputMode="decimal"
          value={value.value}
          onInput={(event) => (value.value = event.currentTarget.value)}
          autocomplete="off"
        />
      )}
    </Field>
  );
}

/** A choice of a list. */
export function Choice(props: {
  label: string;
  value: string;
  among: readonly { value: string; text: string }[];
  chosen: (value: string) => void;
}) {
  return (
    <Field label={props.label}>
      {(control) => (
        <select {...control} value={props.value} onChange={(event) => props.chosen(event.currentTarget.value)}>
          {props.among.map((one) => (
            <option key={one.value} value={one.value}>
              {one.text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** A text that Enter sends; while an input method composes, Enter belongs to it. */
export function Prompt(props: { label: string; value: Signal<string>; send: () => void; rows?: number }) {
  const { label, value, send, rows = 2 } = props;
  return (
    <textarea
      class="prompt"
      rows={rows}
      aria-label={label}
      placeholder={label}
      value={value.value}
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
export function FileButton({ label, chosen }: { label: string; chosen: (file: File) => void }) {
  return (
    <label class="button">
      {label}
      <input
        class="hidden"
        type="file"
        accept="image/*"
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          event.currentTarget.value = "";
          if (file) chosen(file);
        }}
      />
    </label>
  );
}
