import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../state/words";
import { IconButton } from "./fields";

/** A dialog of the browser's own: it keeps the focus, and Escape or a click beside it closes it. */
export function Dialog(props: {
  open: boolean;
  close: () => void;
  label: string;
  class: string;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (props.open && !dialog.current?.open) dialog.current?.showModal();
    if (!props.open) dialog.current?.close();
  }, [props.open]);
  return (
    <dialog
      ref={dialog}
      class={props.class}
      aria-label={props.label}
      onClose={props.close}
      onClick={(event) => {
        if (event.target === event.currentTarget) props.close();
      }}
    >
      {props.open && (
        <>
          {props.children}
          <IconButton class="close" icon="close" label={t("app.close")} onClick={props.close} />
        </>
      )}
    </dialog>
  );
}
