// Mouse, pen, touch and wheel on an image. One finger or the first button goes to the tool in use;
// two fingers, the middle or right button, or the space bar move the image whatever the tool is.

import { isTyping } from "./dom.js";

const WHEEL_ZOOM = 1.0015; // magnification for each unit of the wheel
const WINDOW_STEP = 0.0004; // of the window as read, for each unit of the wheel

export class Gestures {
  /** `tool()` returns the tool in use: {down, move, up, hover, wheel}, each optional. */
  constructor(view, tool) {
    this.view = view;
    this.tool = tool;
    this.pointers = new Map();
    this.active = null; // "tool", "pan" or "pinch"
    this.space = false;
    const { pane } = view;
    pane.addEventListener("pointerdown", (event) => this.down(event));
    pane.addEventListener("pointermove", (event) => this.move(event));
    pane.addEventListener("pointerup", (event) => this.up(event));
    pane.addEventListener("pointercancel", (event) => this.up(event));
    pane.addEventListener("pointerleave", () => this.tool().hover?.(null));
    pane.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    pane.addEventListener("contextmenu", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => this.hold(event, true));
    document.addEventListener("keyup", (event) => this.hold(event, false));
  }

  hold(event, down) {
    if (event.key !== " " || isTyping(event)) return;
    this.space = down;
    this.view.pane.classList.toggle("moving", down);
    if (event.target === document.body || event.target.closest?.(".pane")) event.preventDefault();
  }

  down(event) {
    if (!this.view.pixels || event.target.closest("button")) return;
    this.view.pane.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) {
      // The first finger may have begun a stroke before the second came down.
      if (this.active === "tool") this.tool().cancel?.();
      this.active = "pinch";
    } else if (event.button === 1 || event.button === 2 || this.space) {
      this.active = "pan";
    } else if (event.button === 0) {
      this.active = "tool";
      this.tool().down?.(this.view.point(event), event);
    }
  }

  move(event) {
    if (!this.view.pixels) return;
    const before = this.pointers.get(event.pointerId);
    if (before) this.pointers.set(event.pointerId, event);
    if (this.active === "pinch" && before) this.pinch(event, before);
    else if (this.active === "pan" && before)
      this.view.panBy(event.clientX - before.clientX, event.clientY - before.clientY);
    else if (this.active === "tool" && before) this.toolMoves(event, before);
    this.tool().hover?.(this.view.point(event), event);
  }

  /** Hand over every sample of a pen or mouse, also those between two frames: strokes stay
   *  round. */
  toolMoves(event, before) {
    const samples = event.getCoalescedEvents?.() ?? [];
    for (const sample of samples.length ? samples : [event]) {
      this.tool().move?.(this.view.point(sample), sample, {
        dx: event.clientX - before.clientX,
        dy: event.clientY - before.clientY,
        last: sample === samples.at(-1) || !samples.length,
      });
    }
  }

  pinch(event, before) {
    const other = [...this.pointers.values()].find((one) => one.pointerId !== event.pointerId);
    if (!other) return;
    const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const middle = this.view.point({
      clientX: (event.clientX + other.clientX) / 2,
      clientY: (event.clientY + other.clientY) / 2,
    });
    this.view.zoomAt(distance(event) / Math.max(distance(before), 1), middle.x, middle.y);
    this.view.panBy((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.active === "tool") this.tool().up?.(this.view.point(event), event);
    if (this.pointers.size === 0) this.active = null;
  }

  wheel(event) {
    if (!this.view.pixels) return;
    event.preventDefault();
    // Shift turns the wheel sideways in most browsers.
    const amount = event.deltaY || event.deltaX;
    if (this.tool().wheel?.(amount, event)) return;
    if (event.shiftKey) this.view.adjustWindow(amount * WINDOW_STEP, 0);
    else if (event.altKey) this.view.adjustWindow(0, -amount * WINDOW_STEP);
    else {
      const point = this.view.point(event);
      this.view.zoomAt(WHEEL_ZOOM ** -amount, point.x, point.y);
    }
  }
}

/** The tool that is in use first: dragging to the right widens the window, upwards brightens. */
export function windowTool(view) {
  const FULL = 500; // CSS pixels of a drag that change the window by its whole width as read
  return {
    cursor: "crosshair",
    move: (point, event, { dx, dy, last }) => last && view.adjustWindow(dx / FULL, -dy / FULL),
  };
}

export function panTool(view) {
  return { cursor: "grab", move: (point, event, { dx, dy, last }) => last && view.panBy(dx, dy) };
}
