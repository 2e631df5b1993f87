import { expect, test } from "vitest";

import { fromField, instant, period, shifted, tick, toField } from "../src/format/instants";
import { length, number } from "../src/format/numbers";
import { asText, cut, visible } from "../src/format/text";

test("an instant is shown in the zone of the user, and to the second where there is one", () => {
  expect(instant("2026-07-01T10:05:00Z", "Europe/Berlin")).toBe("2026-07-01 12:05");
  expect(instant("2026-07-01T10:05:09Z", "UTC")).toBe("2026-07-01 10:05:09");
  expect(instant("2026-01-01T00:00:00Z", "America/New_York")).toBe("2025-12-31 19:00");
  expect(instant("not an instant", "UTC")).toBe("not an instant");
});

test("a period names the second day only where it is another", () => {
  expect(period("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "UTC")).toBe("2026-01-01 10:00 – 11:00");
  expect(period("2026-01-01T23:00:00Z", "2026-01-02T00:00:00Z", "UTC")).toBe("2026-01-01 23:00 – 2026-01-02 00:00");
});

test("a tick is a day where the range is long", () => {
  expect(tick("2026-01-05T10:30:00Z", "UTC", 3_600_000)).toBe("10:30");
  expect(tick("2026-01-05T10:30:00Z", "UTC", 7 * 86_400_000)).toBe("01-05");
});

test.each(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Chatham"])(
  "a field of a time in %s gives the instant that it was made of",
  (zone) => {
    for (const iso of ["2026-03-29T00:30:00.000Z", "2026-03-29T01:30:00.000Z", "2026-07-15T23:59:00.000Z", "2026-12-31T23:30:00.000Z"])
      expect(fromField(toField(iso, zone), zone)).toBe(iso);
  },
);

test("an empty field is no instant", () => {
  expect(fromField("", "UTC")).toBeNull();
  expect(toField("", "UTC")).toBe("");
});

test("an instant is shifted by hours", () => {
  expect(shifted("2026-01-01T00:00:00Z", -24)).toBe("2025-12-31T00:00:00.000Z");
});

test("a number is written by its kind and its language", () => {
  expect(number("en", 1234567)).toBe("1,234,567");
  expect(number("de", 1234567)).toBe("1.234.567");
  expect(number("en", 0.004, "share")).toBe("0.4 %");
  expect(number("en", 0.125, "share")).toBe("12.5 %");
  expect(number("en", 1, "share")).toBe("100 %");
  expect(number("de", 0.5, "score")).toBe("0,500");
  expect(number("en", 15_300, "ms")).toBe("15.3 s");
  expect(number("en", 1.25, "ratio")).toBe("×1.25");
  expect(number("en", null)).toBe("–");
  expect(number("en", Number.NaN)).toBe("–");
  expect(number("no-such-language-tag-at-all", 1000.5)).not.toBe("");
});

test("a length of time is in its largest unit of which there are two", () => {
  expect(length("en", 90)).toBe("90 s");
  expect(length("en", 3_600)).toBe("60 min");
  expect(length("en", 200_000)).toBe("2 d");
  expect(length("en", 1.5)).toBe("1.5 s");
});

test("what moves a cursor or turns the direction of text becomes visible", () => {
  expect(visible("a\u001b[31mred\u202egnp.exe\u2066")).toBe("a\\u001b[31mred\\u202egnp.exe\\u2066");
  expect(visible("שלום <b>\n")).toBe("שלום <b>\n");
});

test("a long text is cut, never within a pair", () => {
  expect(cut("abc", 3)).toEqual({ shown: "abc", isCut: false });
  expect(cut("ab😀cd", 3)).toEqual({ shown: "ab…", isCut: true });
  expect(cut("x".repeat(1_000_000), 10)).toEqual({ shown: `${"x".repeat(10)}…`, isCut: true });
});

test("a value that is no text is shown as JSON", () => {
  expect(asText({ a: [1, null] })).toBe('{"a":[1,null]}');
  expect(asText("as it is")).toBe("as it is");
  expect(asText(undefined)).toBe("");
});
