// Runs anywidget's front-end modules with no kernel: each model is what was saved, shared by all of its views.
const saved = JSON.parse(document.getElementById("models").textContent);
const models = new Map();
const modules = new Map();
const moved = {}; // id of a model → the values that are no longer as saved
let following = false; // another window moves them

const once = (map, key, make) => {
  if (!map.has(key)) map.set(key, make());
  return map.get(key);
};

function createModel(id) {
  const { state, buffers } = saved[id];
  for (const { path, data } of buffers) {
    const holder = path.slice(0, -1).reduce((object, key) => object[key], state);
    holder[path.at(-1)] = new DataView(Uint8Array.from(atob(data), (char) => char.charCodeAt(0)).buffer);
  }
  const listeners = new Map(); // event → callbacks
  const emit = (event, ...values) => [...(listeners.get(event) ?? [])].forEach((callback) => callback(...values));
  const model = {
    get: (name) => state[name],
    set(name, value) {
      if (Object.is(state[name], value)) return;
      state[name] = value;
      moved[id] = { ...moved[id], [name]: value };
      if (!following) dispatchEvent(new Event("moved"));
      emit(`change:${name}`, model, value);
      emit("change", model);
    },
    on: (event, callback) => void once(listeners, event, () => new Set()).add(callback),
    off(event, callback) {
      for (const [name, callbacks] of listeners) {
        if (event && name !== event) continue;
        if (callback) callbacks.delete(callback);
        else callbacks.clear();
      }
    },
    save_changes() {}, // there is nobody to tell
    send() {},
  };
  return model;
}

function load(code) {
  return import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
}

function addStyle(css) {
  const style = document.createElement("style");
  style.textContent = css;
  document.head.append(style);
  return style;
}

// Gives models the values that they have in another window.
export async function follow(values = {}) {
  const all = await Promise.all(Object.keys(values).map(async (id) => [await models.get(id), values[id]]));
  following = true;
  try {
    for (const [{ model }, changes] of all)
      for (const [name, value] of Object.entries(changes))
        if (JSON.stringify(model.get(name)) !== JSON.stringify(value)) model.set(name, value);
  } finally {
    following = false;
  }
}

async function mount(el) {
  const signal = new AbortController().signal; // views of a deck live as long as the page
  const { model, widget } = await once(models, el.dataset.model, async () => {
    const model = createModel(el.dataset.model);
    if (model.get("_css")) once(modules, model.get("_css"), () => addStyle(model.get("_css")));
    const { default: made, ...old } = await once(modules, model.get("_esm"), () => load(model.get("_esm")));
    const widget = typeof made === "function" ? await made() : (made ?? old); // the old style exports `render` by itself
    await widget.initialize?.({ model, signal });
    return { model, widget };
  });
  await widget.render({ model, el, signal });
}

await Promise.all(
  [...document.querySelectorAll(".widget")].map((el) =>
    mount(el).catch((error) => {
      console.error(error);
      el.textContent = `This widget failed: ${error.message}`;
    }),
  ),
);
