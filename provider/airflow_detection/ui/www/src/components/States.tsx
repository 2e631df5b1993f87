import { Alert, Box, Button, HStack, Spinner } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { ApiError } from "../api/client";
import type { Loaded } from "../api/useApi";
import { useTexts } from "../locales";
import { Text } from "./Text";

/** Nothing to see, and what to do about it. */
export const Empty = ({ title, children }: { title: string; children?: ReactNode }) => (
  <Box py={4} px={3} borderWidth="1px" borderStyle="dashed" borderColor="border.emphasized" borderRadius="md" color="fg.muted">
    <Box color="fg" fontWeight="medium">{title}</Box>
    {children && <Box fontSize="sm" mt={1} overflowWrap="anywhere">{children}</Box>}
  </Box>
);

export const Loading = ({ text }: { text?: string }) => {
  const t = useTexts();
  return (
    <HStack py={4} color="fg.muted" role="status">
      <Spinner size="sm" aria-hidden="true" />
      <span>{text ?? t("state.loading")} …</span>
    </HStack>
  );
};

export const useErrorText = (): ((error: ApiError) => string) => {
  const t = useTexts();
  return (error) => {
    if (error.status === 401) return t("state.signed_out");
    return error.detail || t("state.network");
  };
};

export const Problem = ({ error, retry }: { error: ApiError; retry?: () => void }) => {
  const t = useTexts();
  const textOf = useErrorText();
  return (
    <Alert.Root status={error.status === 404 ? "info" : "error"} role="alert" my={2}>
      <Alert.Indicator />
      <Alert.Content>
        <Alert.Description color="fg"><Text value={textOf(error)} max={600} /></Alert.Description>
      </Alert.Content>
      {retry && error.status !== 404 && (
        <Button size="xs" variant="outline" onClick={retry}>{t("state.retry")}</Button>
      )}
    </Alert.Root>
  );
};

/** What was asked for: its spinner, its error, or the page that is made of it. */
export const Ready = <T,>({ loaded, children, busy }: { loaded: Loaded<T>; children: (data: T) => ReactNode; busy?: string }) => (
  <>
    {loaded.error && <Problem error={loaded.error} retry={loaded.reload} />}
    {loaded.isLoading && loaded.data === null && <Loading text={busy} />}
    {loaded.data !== null && children(loaded.data)}
  </>
);
