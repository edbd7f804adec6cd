/** The part of a long grid that is in sight: nothing else is put on the page, however much is kept. */

export interface Layout {
  columns: number;
  cell: number; // side of a cell with its gap, pixels
  rows: number;
}
export interface Part {
  first: number; // index of the first picture in sight
  last: number; // one past the last
  before: number; // height of what is left out above, pixels
  after: number; // and below
}

const AROUND = 2; // rows above and below what is in sight, so that a slow scroll never sees white

export function layoutOf(width: number, count: number, least: number, gap: number): Layout {
  const columns = Math.max(2, Math.floor((width + gap) / (least + gap)));
  return { columns, cell: (width + gap) / columns, rows: Math.ceil(count / columns) };
}

/** `top` is how far the grid's upper edge lies above the screen's, `height` that of the screen. */
export function partOf(layout: Layout, count: number, top: number, height: number): Part {
  const { columns, cell, rows } = layout;
  const from = Math.min(Math.max(0, Math.floor(top / cell) - AROUND), Math.max(0, rows - 1));
  const to = Math.min(rows, Math.max(from + 1, Math.ceil((top + height) / cell) + AROUND));
  return {
    first: from * columns,
    last: Math.min(count, to * columns),
    before: from * cell,
    after: Math.max(0, rows - to) * cell,
  };
}
