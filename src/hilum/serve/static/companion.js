// A second pane beside the image: another image of the patient, or the same one in another run.
// Both panes zoom, move and are windowed together.

import { attempt } from "./dialogs.js";
import { el } from "./dom.js";
import { Gestures, windowTool } from "./gestures.js";
import { ImageView } from "./image_view.js";
import { Layers } from "./layers.js";
import { Marks } from "./marks.js";

export class Companion {
  constructor(main, store, choices, closed) {
    Object.assign(this, { main, store, closed, row: null, run: null, following: false });
    this.pane = el("div", { class: "pane", role: "img", tabindex: 0 });
    this.caption = el("div", { class: "caption" });
    document.getElementById("panes").append(this.pane);
    this.view = new ImageView(this.pane);
    this.marks = new Marks(this.view);
    this.layers = new Layers(this.view, this.marks, choices);
    this.pane.append(this.caption);
    const tool = windowTool(this.view);
    this.gestures = new Gestures(this.view, () => tool);
    this.link(main, this.view);
    this.link(this.view, main);
  }

  /** Make one view follow the other; a view that follows does not lead back. */
  link(leader, follower) {
    const follow = (move) => () => {
      if (this.following || !leader.pixels || !follower.pixels || !this.pane.isConnected) return;
      this.following = true;
      move();
      this.following = false;
    };
    leader.on(
      "view",
      follow(() => follower.place(leader.relative())),
    );
    leader.on(
      "window",
      follow(() => {
        follower.window.follow(leader.window, leader.pixels, follower.pixels);
        follower.changed("window");
      }),
    );
  }

  async show(row, title, run = null) {
    Object.assign(this, { row, run });
    this.pane.setAttribute("aria-label", title);
    this.caption.replaceChildren(
      el("span", {}, title),
      el(
        "button",
        { type: "button", "aria-label": "Close this pane", onclick: () => this.close() },
        "✕",
      ),
    );
    const found = this.store.get(row);
    const both = await attempt(() => Promise.all([found.facts, found.pixels]));
    if (!both || this.row !== row || this.run !== run) return;
    const [facts, pixels] = both;
    this.following = true;
    this.view.show(pixels);
    this.view.window.follow(this.main.window, this.main.pixels, pixels);
    this.view.place(this.main.relative());
    this.following = false;
    this.layers.setImage(facts, run);
  }

  close() {
    this.pane.remove();
    this.closed();
  }
}
