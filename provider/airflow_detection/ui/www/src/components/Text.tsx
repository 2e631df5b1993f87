import { Box, Button, chakra } from "@chakra-ui/react";
import { useState } from "react";

import { asText, cut, visible } from "../format/text";
import { useTexts } from "../locales";

const WHOLE_AT_MOST = 100_000;

/** Text of others: isolated from its surroundings, wrapped anywhere, cut with a way to see the whole. */
export const Text = ({ value, max = 120, mono = false }: { value: unknown; max?: number; mono?: boolean }) => {
  const t = useTexts();
  const [isWhole, setWhole] = useState(false);
  const text = asText(value);
  const { shown, isCut } = cut(text, isWhole ? WHOLE_AT_MOST : max);
  return (
    <chakra.span overflowWrap="anywhere" fontFamily={mono ? "mono" : undefined} fontSize={mono ? "0.93em" : undefined}>
      <Box as={isWhole ? "div" : "span"} maxH={isWhole ? "20rem" : undefined} overflowY={isWhole ? "auto" : undefined} tabIndex={isWhole ? 0 : undefined}>
        <bdi>{visible(shown)}</bdi>
      </Box>
      {(isCut || isWhole) && (
        <Button variant="plain" size="xs" px={1} h="auto" color="fg.info" textDecoration="underline" onClick={() => { setWhole(!isWhole); }}>
          {isWhole ? t("text.less") : t("text.all", { count: text.length })}
        </Button>
      )}
    </chakra.span>
  );
};

/** An id on one line, cut by the room that it has; the tooltip has the whole (its beginning, if it is huge). */
export const Id = ({ value, max = 60 }: { value: string; max?: number }) => (
  <bdi style={{ overflowWrap: "anywhere" }} title={value.length > max ? visible(value.slice(0, 2000)) : undefined}>
    {visible(cut(value, max).shown)}
  </bdi>
);
