import { Alert, Box, Flex, Stack } from "@chakra-ui/react";

import { route } from "../api/client";
import type { Headline } from "../api/types";
import { useApi } from "../api/useApi";
import { Period } from "../components/Instant";
import { StatusMark } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { Loading } from "../components/States";
import { Text } from "../components/Text";
import { links } from "../links";
import { useTexts } from "../locales";

const EVERY_S = 60;
const SHOWN = 3;

/** The card on Airflow's home page: the headline of the last report. */
export const HeadlineCard = () => {
  const t = useTexts();
  const { data, error, isLoading } = useApi<Headline>(route("headline"), EVERY_S);
  if (error && !data) return null; // the home page is not the place for our errors
  return (
    <Box as="section" aria-label={t("card.title")} borderWidth="1px" borderColor="border.emphasized" borderRadius="md" p={4} order={3} data-detection="">
      {isLoading || !data ? <Loading /> : (
        <Flex gap={3} align="center" wrap="wrap">
          <Box fontWeight="semibold"><PageLink to={links.overview()}>{t("card.title")}</PageLink></Box>
          {data.headline ? (
            <>
              <StatusMark status={data.headline.status} />
              <Box flex="1" minW="14rem"><Text value={data.headline.text} max={200} /></Box>
              <Box fontSize="sm" color="fg.muted"><Period start={data.headline.start} end={data.headline.end} /></Box>
              {data.headline.snapshot_id !== null && <PageLink to={links.report(data.headline.snapshot_id)}>{t("overview.report")}</PageLink>}
            </>
          ) : <Box color="fg.muted">{t("overview.no_report")}</Box>}
        </Flex>
      )}
    </Box>
  );
};

/** A banner above every page, while a champion is in trouble. */
export const Banner = () => {
  const t = useTexts();
  const { data } = useApi<Headline>(route("headline"), EVERY_S);
  if (!data || data.troubles.length === 0) return null;
  return (
    <Alert.Root status="error" flexShrink={0} mb={2} data-detection="">
      <Alert.Indicator />
      <Alert.Content>
        <Alert.Title color="fg">{t("banner.title")}</Alert.Title>
        <Alert.Description color="fg">
          <Stack gap={0}>
            {data.troubles.slice(0, SHOWN).map((trouble) => (
              <Box key={trouble.label}><PageLink color="fg" to={links.model(trouble.model_id)}><Text value={t("banner.more", { label: trouble.label, kind: trouble.kind })} max={120} /></PageLink> <Text value={trouble.reason} max={120} /></Box>
            ))}
          </Stack>
        </Alert.Description>
      </Alert.Content>
      <PageLink color="fg" to={links.overview()}>{t("banner.open")}</PageLink>
    </Alert.Root>
  );
};
