import { Box } from "@chakra-ui/react";
import type { ReactNode } from "react";

import { useZone } from "../format/instants";
import { useLanguage, useTexts } from "../locales";

/** The frame of a page: its language, its width, and in which zone its times are. */
export const Shell = ({ children, head }: { children: ReactNode; head?: ReactNode }) => {
  const t = useTexts();
  const lang = useLanguage();
  const zone = useZone();
  return (
    <Box lang={lang} display="flex" flexDirection="column" gap={4} p={3} minW={0} width="100%" maxW="1600px" data-detection="">
      {head}
      {children}
      <Box fontSize="xs" color="fg.muted">{t("zone", { zone })}</Box>
    </Box>
  );
};
