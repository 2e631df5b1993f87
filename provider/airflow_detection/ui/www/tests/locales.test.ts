import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { translate } from "../src/locales";
import { de } from "../src/locales/de";
import { en, type Key } from "../src/locales/en";

const SOURCE = join(import.meta.dirname, "..", "src");
const BUILT = /^(tab|status|role|range|condition|events\.(acknowledge|close))/; // keys that are put together
const sources = readdirSync(SOURCE, { recursive: true, encoding: "utf8" })
  .filter((file) => /\.tsx?$/.test(file) && !file.startsWith("locales"))
  .map((file) => readFileSync(join(SOURCE, file), "utf8"))
  .join("\n");
const keys = Object.keys(en) as Key[];
const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort();

test("each language has the same keys, in the same order, with the same values to fill in", () => {
  expect(Object.keys(de)).toEqual(keys);
  for (const key of keys) expect([key, names(de[key])]).toEqual([key, names(en[key])]);
});

test("each text is used", () => {
  expect(keys.filter((key) => !sources.includes(`"${key}"`) && !BUILT.test(key))).toEqual([]);
});

test("a language that has no file is English, and a variant is its language", () => {
  expect(translate("de-AT", "tab.overview")).toBe("Überblick");
  expect(translate("ko", "tab.overview")).toBe("Overview");
  expect(translate("en", "overview.events", { count: 3 })).toBe("Open events, CRITICAL and HIGH (3)");
});

test("what is filled in is not filled in again", () => {
  expect(translate("en", "overview.asked", { who: "{who} $& {count}" })).toBe("asked for by {who} $& {count}");
});
