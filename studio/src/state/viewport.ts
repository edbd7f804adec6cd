/** Zoom and pan: where a stage lies in the box that shows it. Scales are of the size that just fits. */

export interface Size {
  width: number;
  height: number;
}
export interface Shot {
  scale: number; // 1 fits
  x: number; // of the stage's middle from the box's, pixels of the screen
  y: number;
}
export const FIT: Shot = { scale: 1, x: 0, y: 0 };
const CLOSEST = 16;
const EDGE = 24; // pixels around what fits

/** Pixels of the screen for one of the stage's, where it just fits; small stages are enlarged. */
export function fitOf(stage: Size, box: Size): number {
  if (stage.width <= 0 || stage.height <= 0) return 1;
  const [width, height] = [Math.max(1, box.width - EDGE), Math.max(1, box.height - EDGE)];
  return Math.min(width / stage.width, height / stage.height);
}

/** The stage may not be lost: its middle stays within its own size of the box's middle. */
function held(shot: Shot, box: Size): Shot {
  const most = { x: (box.width * shot.scale) / 2, y: (box.height * shot.scale) / 2 };
  const within = (value: number, limit: number): number => Math.max(-limit, Math.min(limit, value));
  return { scale: shot.scale, x: within(shot.x, most.x), y: within(shot.y, most.y) };
}

/** Closer or farther, so that what lies under a point of the box stays under it. The point is from the box's middle. */
export function zoomed(shot: Shot, factor: number, point: { x: number; y: number }, box: Size): Shot {
  const scale = Math.max(1, Math.min(CLOSEST, shot.scale * factor));
  if (scale === 1) return FIT;
  const by = scale / shot.scale;
  return held({ scale, x: point.x + (shot.x - point.x) * by, y: point.y + (shot.y - point.y) * by }, box);
}

export function panned(shot: Shot, x: number, y: number, box: Size): Shot {
  return shot.scale === 1 ? shot : held({ ...shot, x: shot.x + x, y: shot.y + y }, box);
}
