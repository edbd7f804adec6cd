/** Icons as lines of one width, drawn for this page: each a path in a square of 24. */

const PATHS = {
  draw: "M4 20l1-5L16 4l4 4L9 19l-5 1zM14 6l4 4",
  canvas: "M4 5h16v14H4zM8 13l3-3 4 4 2-2 3 3M15.5 9h.01",
  make: "M4 4h7v7H4zM13 13h7v7h-7zM16.5 4v6M13.500 7h6M7.500 14v6M4.500 17h6",
  library: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  folder: "M3 6h6l2 2h10v11H3z",
  models: "M12 3l8 4.500v9L12 21l-8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  moon: "M20 14.500A8.500 8.500 0 119.500 4a7 7 0 0010.500 10.500z",
  help: "M9 9a3 3 0 113.500 3c-.5.2-.5.600-.5 1.500M12 17h.01M12 3a9 9 0 100 18 9 9 0 000-18z",
  close: "M6 6l12 12M18 6L6 18",
  brush: "M20 4c-5 2-9 6-11 10l2 2c4-2 7-6 9-12zM8.500 14.500C6 14.500 6 18 3.500 19c3 1.500 7 .5 7-2.500",
  eraser: "M8 20L3 15 14 4l6 6L10 20zM8.500 9.500l6 6M8 20h12",
  rectangle: "M4 6h16v12H4z",
  lasso: "M12 4c5 0 9 2.500 9 6s-4 6-9 6-9-2.500-9-6 4-6 9-6zM7 15.500c-1.500 1-1.500 4 1 4.500",
  undo: "M8 5L4 9l4 4M4 9h10a6 6 0 010 12h-3",
  redo: "M16 5l4 4-4 4M20 9H10a6 6 0 000 12h3",
  invert: "M12 3a9 9 0 100 18 9 9 0 000-18zM12 3v18M12 7h5M12 12h8M12 17h5",
  clear: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  zoomin: "M11 5a6 6 0 100 12 6 6 0 000-12zM15.500 15.500L20 20M11 8v6M8 11h6",
  zoomout: "M11 5a6 6 0 100 12 6 6 0 000-12zM15.500 15.500L20 20M8 11h6",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  star: "M12 3.500l2.600 5.300 5.900.9-4.300 4.100 1 5.800-5.200-2.700-5.200 2.700 1-5.800-4.300-4.100 5.900-.9z",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  search: "M11 5a6 6 0 100 12 6 6 0 000-12zM15.500 15.500L20 20",
  eye: "M2 12c3-5 6.500-7 10-7s7 2 10 7c-3 5-6.500 7-10 7s-7-2-10-7zM12 9a3 3 0 100 6 3 3 0 000-6z",
  check: "M5 12l5 5 9-10",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  plus: "M12 5v14M5 12h14",
  settings: "M4 7h10M18 7h2M14 5v4M4 17h2M10 17h10M8 15v4",
  compare: "M12 3v18M4 6h5v12H4zM15 6h5v12h-5z",
  shield: "M12 3l8 3v6c0 4.500-3.500 7.500-8 9-4.500-1.500-8-4.500-8-9V6zM9 12l2 2 4-4",
  again: "M20 11a8 8 0 10-2.500 6M20 5v6h-6",
  upload: "M12 16V5M7 9l5-5 5 5M5 20h14",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, filled = false }: { name: IconName; filled?: boolean }) {
  return (
    <svg class={filled ? "icon filled" : "icon"} viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
