// <d2csr-compare>: two images of any size under a slider, with pan and zoom.
//
// data-left: {"label", "url", "enlarged"}; data-right: a list of those, of which one is shown;
// data-size: "WIDTH HEIGHT" of the result in pixels; data-view: elements with the same value show
// the same part. An image is loaded as tiles of URL/LEVEL/COLUMN_ROW.jpg, described by URL/tiles.
// "enlarged" images are drawn over the whole result, others pixel by pixel.
//
// Its parts are in a shadow root, because Gradio replaces the attributes and children of an element
// in place when its HTML changes.

const views = new Map(); // data-view -> {x, y, zoom, split}: center in result pixels, device pixels per pixel
const MAX_ZOOM = 16;
const TILES_KEPT = 400;

class Layer {
  constructor({ label, url, enlarged = false }, redraw) {
    Object.assign(this, { label, url, enlarged, redraw, info: null, error: null, tiles: new Map() });
  }

  async load() {
    if (this.loading) return this.loading;
    this.loading = (async () => {
      const answer = await fetch(`${this.url}/tiles`);
      if (answer.ok) this.info = await answer.json();
      else this.error = await answer.text();
      this.redraw();
    })();
    return this.loading;
  }

  tile(level, column, row, wanted) {
    const name = `${level}/${column}_${row}`;
    let image = this.tiles.get(name);
    if (!image && wanted) {
      image = new Image();
      image.onload = this.redraw;
      image.src = `${this.url}/${name}.jpg`;
      this.tiles.set(name, image);
      if (this.tiles.size > TILES_KEPT) this.tiles.delete(this.tiles.keys().next().value);
    }
    return image && image.complete && image.naturalWidth ? image : null;
  }

  // Draw the visible part; `scale` is device pixels per pixel of the result, `left` and `top` the
  // result's position on the canvas, in device pixels.
  draw(context, { scale, left, top, width, height, result }) {
    if (!this.info) return;
    const own = scale * (this.enlarged ? result.width / this.info.width : 1);
    const last = this.info.levels - 1;
    const best = Math.max(0, last - Math.max(0, Math.floor(Math.log2(1 / own) + 1e-6)));
    for (const level of new Set([0, Math.max(0, best - 2), best])) {
      const side = this.info.tile * 2 ** (last - level) * own; // of a tile, in device pixels
      const columns = Math.ceil(this.info.width / 2 ** (last - level) / this.info.tile);
      const rows = Math.ceil(this.info.height / 2 ** (last - level) / this.info.tile);
      const first = { column: Math.max(0, Math.floor(-left / side)), row: Math.max(0, Math.floor(-top / side)) };
      for (let row = first.row; row < rows && top + row * side < height; row++) {
        for (let column = first.column; column < columns && left + column * side < width; column++) {
          const image = this.tile(level, column, row, level === 0 || level === best);
          if (!image) continue;
          const per = side / this.info.tile;
          context.drawImage(
            image, left + column * side, top + row * side, image.naturalWidth * per, image.naturalHeight * per,
          );
        }
      }
    }
  }

  get size() {
    return this.info && !this.enlarged ? this.info : { width: 0, height: 0 };
  }
}

class Compare extends HTMLElement {
  static observedAttributes = ["data-left", "data-right", "data-size", "data-view"];

  connectedCallback() {
    this.start();
  }

  attributeChangedCallback() {
    clearTimeout(this.starting); // several change at once
    this.starting = setTimeout(() => this.isConnected && this.start());
  }

  start() {
    clearTimeout(this.starting);
    this.observer?.disconnect();
    const redraw = () => this.redraw();
    const [width, height] = this.dataset.size.split(" ").map(Number);
    this.result = { width, height };
    this.left = new Layer(JSON.parse(this.dataset.left), redraw);
    this.rights = JSON.parse(this.dataset.right).map((each) => new Layer(each, redraw));
    this.right = this.rights[0];
    this.pointers = new Map();
    this.build();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.stage);
  }

  disconnectedCallback() {
    this.observer?.disconnect();
  }

  get view() {
    const name = this.dataset.view;
    if (!views.has(name)) views.set(name, { x: null, y: null, zoom: null, split: 0.5 });
    return views.get(name);
  }

  build() {
    const choices = this.rights
      .map((each, index) => `<button type="button" data-layer="${index}">${each.label}</button>`)
      .join("");
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    root.innerHTML = `
      <link rel="stylesheet" href="/page/compare.css">
      <div class="bar">
        <span class="group zooms">
          <button type="button" data-zoom="fit" title="The whole image">Fit</button>
          <button type="button" data-zoom="1" title="One pixel of the result is one pixel of the screen">1:1</button>
          <button type="button" data-zoom="2">2:1</button>
          <output class="zoom"></output>
        </span>
        <span class="group choices" ${this.rights.length > 1 ? "" : "hidden"}>${choices}</span>
        <button type="button" data-full title="The whole screen">Full screen</button>
      </div>
      <div class="stage" tabindex="-1">
        <canvas></canvas>
        <span class="label left"></span><span class="label right"></span>
        <div class="handle" role="slider" tabindex="0" aria-label="Before and after" aria-valuemin="0" aria-valuemax="100"></div>
        <p class="note" role="status">Preparing the view ...</p>
      </div>`;
    this.stage = this.shadowRoot.querySelector(".stage");
    this.canvas = this.shadowRoot.querySelector("canvas");
    this.handle = this.shadowRoot.querySelector(".handle");
    this.shadowRoot.querySelector(".bar").addEventListener("click", (event) => this.press(event));
    this.stage.addEventListener("pointerdown", (event) => this.grab(event));
    this.stage.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("dblclick", (event) => this.zoomTo(this.isFit() ? 1 : "fit", event));
    this.handle.addEventListener("keydown", (event) => this.key(event));
  }

  // The whole area, a legend below a map included.
  get world() {
    const layers = [this.result, this.left.size, this.right.size];
    return {
      width: Math.max(...layers.map((each) => each.width)),
      height: Math.max(...layers.map((each) => each.height)),
    };
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth) return; // in a tab that is not shown
    this.left.load();
    this.right.load();
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.redraw();
  }

  fitZoom() {
    const { width, height } = this.world;
    return Math.min(1, this.canvas.width / width, this.canvas.height / height);
  }

  isFit() {
    return this.view.zoom === null;
  }

  zoom() {
    return this.isFit() ? this.fitZoom() : this.view.zoom;
  }

  center() {
    const { width, height } = this.world;
    return this.isFit() ? { x: width / 2, y: height / 2 } : { x: this.view.x, y: this.view.y };
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
    });
  }

  draw() {
    const { canvas, view } = this;
    if (!canvas.width || !this.stage.clientWidth) return;
    const context = canvas.getContext("2d");
    const scale = this.zoom();
    const center = this.center();
    const at = {
      scale,
      left: Math.round(canvas.width / 2 - center.x * scale),
      top: Math.round(canvas.height / 2 - center.y * scale),
      width: canvas.width,
      height: canvas.height,
      result: this.result,
    };
    const split = Math.round(view.split * canvas.width);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    for (const [layer, from, to] of [[this.left, 0, split], [this.right, split, canvas.width]]) {
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, canvas.height);
      context.clip();
      layer.draw(context, at);
      context.restore();
    }
    this.describe(scale);
  }

  describe(scale) {
    const percent = 100 * this.view.split;
    this.handle.style.left = `${percent}%`;
    this.handle.setAttribute("aria-valuenow", Math.round(percent));
    this.shadowRoot.querySelector(".label.left").textContent = this.left.label;
    this.shadowRoot.querySelector(".label.right").textContent = this.right.label;
    this.shadowRoot.querySelector(".zoom").textContent = `${Math.round(100 * scale)} %`;
    const pressed = this.isFit() ? "fit" : String(scale);
    for (const button of this.shadowRoot.querySelectorAll("[data-zoom]")) {
      button.setAttribute("aria-pressed", button.dataset.zoom === pressed);
    }
    for (const button of this.shadowRoot.querySelectorAll("[data-layer]")) {
      button.setAttribute("aria-pressed", this.rights[button.dataset.layer] === this.right);
    }
    const note = this.shadowRoot.querySelector(".note");
    const error = this.left.error || this.right.error;
    note.textContent = error || "Preparing the view ...";
    note.hidden = !error && Boolean(this.left.info && this.right.info);
    this.toggleAttribute("data-ready", Boolean(this.left.info && this.right.info));
  }

  press(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { zoom, layer } = button.dataset;
    if (zoom) this.zoomTo(zoom === "fit" ? "fit" : Number(zoom));
    if (layer) {
      this.right = this.rights[layer];
      this.right.load();
      this.redraw();
    }
    if ("full" in button.dataset) {
      if (document.fullscreenElement) document.exitFullscreen();
      else this.requestFullscreen();
    }
  }

  // Set the zoom, and keep the point under the mouse, or the center, where it is.
  zoomTo(zoom, event) {
    if (zoom === "fit") {
      Object.assign(this.view, { x: null, y: null, zoom: null });
      return this.redraw();
    }
    const old = this.zoom();
    const center = this.center();
    const away = this.fromCenter(event);
    const limited = Math.min(MAX_ZOOM, Math.max(this.fitZoom() / 2, zoom));
    this.moveTo(
      { x: center.x + away.x / old - away.x / limited, y: center.y + away.y / old - away.y / limited },
      limited,
    );
  }

  moveTo({ x, y }, zoom) {
    const { width, height } = this.world;
    const within = (value, most) => Math.min(most, Math.max(0, value));
    Object.assign(this.view, { x: within(x, width), y: within(y, height), zoom });
    this.redraw();
  }

  // Device pixels from the center of the canvas to the mouse.
  fromCenter(event) {
    if (!event) return { x: 0, y: 0 };
    const box = this.stage.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    return {
      x: (event.clientX - box.left - box.width / 2) * ratio,
      y: (event.clientY - box.top - box.height / 2) * ratio,
    };
  }

  grab(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    const isHandle = event.target === this.handle;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, isHandle });
    if (!isHandle) this.stage.focus({ preventScroll: true });
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY, isHandle: before.isHandle };
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, each]) => each);
    this.pointers.set(event.pointerId, now);
    if (now.isHandle) {
      const box = this.stage.getBoundingClientRect();
      this.setSplit((now.x - box.left) / box.width);
    } else if (others.length) {
      const distance = (point) => Math.hypot(point.x - others[0].x, point.y - others[0].y) || 1;
      this.zoomTo((this.zoom() * distance(now)) / distance(before), event);
    } else {
      const ratio = (window.devicePixelRatio || 1) / this.zoom();
      const center = this.center();
      this.moveTo(
        { x: center.x - (now.x - before.x) * ratio, y: center.y - (now.y - before.y) * ratio },
        this.zoom(),
      );
    }
  }

  wheel(event) {
    event.preventDefault();
    this.zoomTo(this.zoom() * 2 ** (-event.deltaY / 300), event);
  }

  key(event) {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.setSplit(this.view.split + step);
  }

  setSplit(share) {
    this.view.split = Math.min(1, Math.max(0, share));
    this.redraw();
  }
}

customElements.define("d2csr-compare", Compare);

// A closed tab forgets its results: asked before, as long as none was downloaded.
let isSaved = false;
document.addEventListener("click", (event) => {
  if (event.target.closest?.(".d2csr-downloads a")) isSaved = true;
});
window.addEventListener("beforeunload", (event) => {
  if (!isSaved && document.querySelector("d2csr-compare")) event.preventDefault();
});

// Pasted images go where dropped ones go.
document.addEventListener("paste", (event) => {
  const images = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  const input = document.querySelector("#photos input[type=file]");
  if (!images.length || !input) return;
  const transfer = new DataTransfer();
  images.forEach((file) => transfer.items.add(file));
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
