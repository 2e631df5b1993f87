const HIDDEN =
  // eslint-disable-next-line no-control-regex -- these are what is made visible
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Text in which control characters and changes of direction are escapes; tabs and line feeds stay. */
export const visible = (text: string): string =>
  text.replace(HIDDEN, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** The beginning of a text; `isCut` tells whether there is more. */
export const cut = (text: string, max: number): { shown: string; isCut: boolean } => {
  if (text.length <= max) return { shown: text, isCut: false };
  const half = /[\ud800-\udbff]$/.test(text.slice(0, max)) ? 1 : 0; // no half of a pair
  return { shown: `${text.slice(0, max - half)}…`, isCut: true };
};

/** A JSON value as text: strings as they are, anything else as JSON. */
export const asText = (value: unknown): string =>
  typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value);
