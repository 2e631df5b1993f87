import { useSyncExternalStore } from "react";

import { de } from "./de";
import { en, type Key, type Texts } from "./en";

const LANGUAGES: Record<string, Texts> = { de, en };
const STORED = "i18nextLng";

export type Values = Record<string, string | number>;
export type Translate = (key: Key, values?: Values) => string;

/** The language of Airflow's own pages, such as `de-AT`; English where there is none. */
export const language = (): string => {
  try {
    return localStorage.getItem(STORED) ?? (document.documentElement.lang || "en");
  } catch {
    return document.documentElement.lang || "en";
  }
};

/** The text of a key in a language; English where the language has no file. */
export const translate = (lang: string, key: Key, values: Values = {}): string => {
  const texts = LANGUAGES[lang] ?? LANGUAGES[lang.split("-")[0] ?? ""] ?? en;
  return texts[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
};

const follow = (changed: () => void) => {
  const observer = new MutationObserver(changed);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["lang"] });
  window.addEventListener("storage", changed);
  return () => {
    observer.disconnect();
    window.removeEventListener("storage", changed);
  };
};

/** The language, followed while a page is open. */
export const useLanguage = (): string => useSyncExternalStore(follow, language);

/** A function that gives the text of a key in the language of Airflow's own pages. */
export const useTexts = (): Translate => {
  const lang = useLanguage();
  return (key, values) => translate(lang, key, values);
};

export type { Key };
