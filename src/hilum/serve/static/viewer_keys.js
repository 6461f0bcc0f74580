// Keys of the viewer; the help sheet of the page lists them.

const TOOLS = {
  w: "window",
  g: "pan",
  m: "measure",
  b: "brush",
  e: "eraser",
  p: "polygon",
  f: "fill",
};
const PRESETS = { r: "as-read", l: "lung", k: "bone", i: "inverted" };
const LAYERS = { 1: 1, 2: 2, 3: 255 };

const VIEW = {
  ArrowRight: (desk) => desk.step("next"),
  ArrowLeft: (desk) => desk.step("previous"),
  "+": (desk) => desk.view.zoomAt(1.25),
  "=": (desk) => desk.view.zoomAt(1.25),
  "-": (desk) => desk.view.zoomAt(0.8),
  0: (desk) => desk.view.fit(),
  a: (desk) => desk.actualSize(),
  o: (desk) => desk.toggleOverlays(),
  c: (desk) => desk.toggleCompanion(),
  x: (desk) => desk.marks.clear(),
  Backspace: () => document.getElementById("to-list").click(),
};

const MASK = {
  h: (masks) => masks.withDraft(() => masks.editor.fillHoles()),
  j: (masks) => masks.withDraft(() => masks.editor.smooth()),
  "[": (masks) => masks.editor.grow(-1),
  "]": (masks) => masks.editor.grow(1),
  Enter: (masks) => masks.editor.closePolygon(),
  Escape: (masks) => masks.editor.dropPolygon(),
};

function withControl(masks, event) {
  const key = event.key.toLowerCase();
  if (key === "z") return event.shiftKey ? masks.editor.redo() : masks.editor.undo();
  if (key === "y") return masks.editor.redo();
  if (key === "s") return masks.save();
  if (key === "enter") return masks.saveAndNext();
  return false;
}

/** Do what a key press says; returns whether it was one of the viewer's keys. */
export function viewerKeys(desk, event) {
  const { masks } = desk;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) return Boolean(masks) && withControl(masks, event) !== false;
  // A button that has the focus keeps Enter and the space bar; a slider its arrows.
  if (
    event.altKey ||
    (event.target.closest("button, a, summary") && key === "Enter") ||
    event.target.matches("input[type=range]")
  )
    return false;
  if (TOOLS[key]) desk.useTool(TOOLS[key]);
  else if (PRESETS[key]) desk.usePreset(PRESETS[key]);
  else if (VIEW[key] && desk.view.pixels) VIEW[key](desk);
  else if (masks && LAYERS[key]) masks.editor.set({ layer: LAYERS[key] });
  else if (masks && MASK[key]) MASK[key](masks);
  else return false;
  return true;
}
