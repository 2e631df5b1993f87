import { Box, chakra, Flex } from "@chakra-ui/react";
import type { ReactNode } from "react";

import { MARKS, PALETTES, type Tone } from "./theme";

export type FactView = { label: string; value: ReactNode; note?: ReactNode; tone?: Tone };

/** Figures with their labels, side by side. */
export const Facts = ({ facts }: { facts: FactView[] }) => (
  <Flex as="dl" wrap="wrap" columnGap={8} rowGap={3} m={0}>
    {facts.map((fact, n) => (
      <Box key={n} minW="5.5rem" maxW="20rem">
        <chakra.dt fontSize="xs" color="fg.muted">{fact.label}</chakra.dt>
        <chakra.dd m={0} fontSize="xl" fontWeight="semibold" lineHeight="1.3" overflowWrap="anywhere" fontVariantNumeric="tabular-nums"
          colorPalette={PALETTES[fact.tone ?? "none"]} color={fact.tone && fact.tone !== "none" && fact.tone !== "ok" ? "colorPalette.fg" : undefined}>
          {fact.tone && fact.tone !== "none" && fact.tone !== "ok" && <span aria-hidden="true">{MARKS[fact.tone]} </span>}
          {fact.value}
          {fact.note && <chakra.small display="block" fontSize="xs" fontWeight="normal" color="fg.muted">{fact.note}</chakra.small>}
        </chakra.dd>
      </Box>
    ))}
  </Flex>
);
