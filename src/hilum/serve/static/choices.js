// What a reader may choose from: states of a label, and corrections of an image.

export const STATES = ["present", "absent", "uncertain", "not mentioned"];

/** Each correction: its action in a corrections file, its name on the page, and its value; ""
 *  the reader enters. */
export const CORRECTIONS = [
  ["leave out", "Leave the image out", null],
  ["mirror", "Mirror", null],
  ["invert", "Invert", null],
  ["rotate", "Rotate 90° clockwise", "90"],
  ["rotate", "Rotate 180°", "180"],
  ["rotate", "Rotate 90° counterclockwise", "270"],
  ["leave out mask", "Leave its mask out", null],
  ["exchange mask sides", "Exchange the sides of its mask", null],
  ["set patient", "Move to another patient …", ""],
];
