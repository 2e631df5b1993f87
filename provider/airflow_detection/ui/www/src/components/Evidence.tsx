import { chakra, Flex } from "@chakra-ui/react";

import { number } from "../format/numbers";
import { visible } from "../format/text";
import { useLanguage } from "../locales";
import { Text } from "./Text";

const MAX_VALUES = 60;
const MAX_DEPTH = 3;
const WRAPPER = "evidence"; // what many models put their evidence under

type Named = [name: string, value: unknown];

const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === "object" && !Array.isArray(value);

/** The values of a JSON object with the names that lead to them, those of `evidence` first. */
export const flattened = (values: Record<string, unknown>, without: string[] = [], prefix = "", depth = 0): Named[] => {
  const names = Object.keys(values).filter((name) => depth > 0 || !without.includes(name));
  const own = names.map((name): Named[] => {
    const value = values[name];
    const full = depth === 0 && name === WRAPPER ? "" : `${prefix}${name}`;
    return isObject(value) && depth < MAX_DEPTH && Object.keys(value).length > 0
      ? flattened(value, [], full && `${full}.`, depth + 1)
      : [[full || name, value]];
  });
  const first = names.indexOf(WRAPPER);
  return (first > 0 && depth === 0 ? [own[first] ?? [], ...own.filter((_, n) => n !== first)] : own).flat();
};

const Value = ({ value }: { value: unknown }) => {
  const lang = useLanguage();
  if (typeof value === "number") return <>{Number.isInteger(value) ? String(value) : number(lang, value, "number")}</>;
  return <Text value={value ?? "–"} max={120} mono={typeof value === "object" && value !== null} />;
};

/** The values of a JSON object side by side, each behind its name. */
export const Evidence = ({ values, without = [] }: { values: Record<string, unknown> | null; without?: string[] }) => {
  const named = flattened(values ?? {}, without);
  if (named.length === 0) return <>–</>;
  return (
    <Flex as="dl" m={0} wrap="wrap" columnGap={4} rowGap={0} fontSize="sm" minW="10rem">
      {named.slice(0, MAX_VALUES).map(([name, value]) => (
        <Flex key={name} gap={1.5} minW={0} align="baseline">
          <chakra.dt color="fg.muted" overflowWrap="anywhere"><bdi>{visible(name.slice(0, 80))}</bdi></chakra.dt>
          <chakra.dd m={0} minW={0} overflowWrap="anywhere"><Value value={value} /></chakra.dd>
        </Flex>
      ))}
      {named.length > MAX_VALUES && <chakra.dd m={0}>… {named.length - MAX_VALUES}</chakra.dd>}
    </Flex>
  );
};
