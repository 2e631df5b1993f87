import { ChakraProvider, defaultSystem } from "@chakra-ui/react";
import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, expect, test } from "vitest";

import { Evidence } from "../src/components/Evidence";
import { Text } from "../src/components/Text";

const show = (children: ReactNode) => render(<ChakraProvider value={defaultSystem}>{children}</ChakraProvider>);
const MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>';

afterEach(cleanup);

test("markup is text", () => {
  const { container } = show(<Text value={MARKUP} />);
  expect(container.textContent).toBe(MARKUP);
  expect(container.querySelector("img, script")).toBeNull();
});

test("a megabyte is cut, and shown as far as a page can bear it when it is asked for", () => {
  const { container } = show(<Text value={"x".repeat(1_000_000)} max={50} />);
  expect(container.querySelector("bdi")?.textContent).toHaveLength(51);
  fireEvent.click(screen.getByRole("button", { name: "Show all (1000000 characters)" }));
  expect(container.querySelector("bdi")?.textContent).toHaveLength(100_001);
  fireEvent.click(screen.getByRole("button", { name: "Show less" }));
  expect(container.querySelector("bdi")?.textContent).toHaveLength(51);
});

test("evidence shows nested values, whatever its names and values are", () => {
  const { container } = show(<Evidence values={{ [MARKUP]: { deep: { deeper: { deepest: { end: 1 } } } }, __proto__x: null, speed: 12.3456, flag: true }} />);
  expect(container.querySelector("img, script")).toBeNull();
  expect(container.textContent).toContain("12.346");
  expect(container.textContent).toContain('{"end":1}');
});

test("evidence of very many names is cut", () => {
  const many = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`k${n}`, n]));
  expect(show(<Evidence values={many} />).container.querySelectorAll("dt")).toHaveLength(60);
});
