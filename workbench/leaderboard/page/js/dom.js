// Builds elements; text never becomes markup, since it only enters as text nodes and attribute values.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, action] of Object.entries(value)) element.addEventListener(event, action);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// A name from somebody's file: kept apart from the direction of the text around it.
export function named(text) {
  return h("bdi", {}, text);
}

export function option(value, label, chosen) {
  return h("option", { value, selected: String(value) === String(chosen) }, label);
}

export function select(label, options, chosen, onChange, attributes = {}) {
  const input = h("select", { on: { change: () => onChange(input.value) } },
    options.map(([value, text]) => option(value, text, chosen)));
  return h("label", attributes, h("span", {}, label), input);
}

export function replace(root, ...children) {
  root.replaceChildren(...children.flat(Infinity).filter(Boolean));
}

export function announce(text) {
  document.getElementById("status").textContent = text;
}
