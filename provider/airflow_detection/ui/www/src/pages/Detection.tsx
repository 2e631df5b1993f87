import { chakra, Flex, Link } from "@chakra-ui/react";
import type { ComponentType } from "react";
import { Link as RouterLink } from "react-router-dom";

import { Shell } from "../components/Shell";
import { useAddress } from "../components/useAddress";
import { links, type View } from "../links";
import { useTexts } from "../locales";
import { Compare } from "./Compare";
import { Cycle } from "./Cycle";
import { Entity } from "./Entity";
import { Events } from "./Events";
import { Findings } from "./Findings";
import { Model } from "./Model";
import { Overview } from "./Overview";
import { Reports } from "./Reports";

const VIEWS: Record<View, ComponentType> = {
  overview: Overview, model: Model, compare: Compare, entity: Entity, events: Events, reports: Reports, cycle: Cycle, findings: Findings,
};
const TABS: View[] = ["overview", "model", "compare", "cycle", "entity", "events", "reports"];
const isView = (name: string): name is View => name in VIEWS;

const Tabs = ({ current }: { current: View }) => {
  const t = useTexts();
  return (
    <chakra.nav aria-label={t("tabs")} borderBottomWidth="1px" borderColor="border.emphasized">
      <Flex wrap="wrap" gap={1}>
        {[...TABS, ...(TABS.includes(current) ? [] : [current])].map((view) => {
          const isCurrent = view === current;
          return (
            <Link asChild key={view} px={3} py={2} fontWeight="bold" color={isCurrent ? "fg" : "fg.muted"} borderBottomWidth="3px" mb="-1px" borderRadius="0"
              borderColor={isCurrent ? "border.info" : "transparent"} _hover={{ color: "fg", textDecoration: "none" }}>
              <RouterLink to={isCurrent ? "" : links.view(view)} aria-current={isCurrent ? "page" : undefined}>{t(`tab.${view}`)}</RouterLink>
            </Link>
          );
        })}
      </Flex>
    </chakra.nav>
  );
};

/** The page Detection: one view of it, which the address names. */
export const Detection = () => {
  const t = useTexts();
  const [read] = useAddress();
  const asked = read("view");
  const current: View = isView(asked) ? asked : "overview";
  const Current = VIEWS[current];
  return (
    <Shell head={<><chakra.h1 fontSize="2xl" fontWeight="bold">{t("title")}</chakra.h1><Tabs current={current} /></>}>
      <Current />
    </Shell>
  );
};
