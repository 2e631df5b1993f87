import { Button, CloseButton, Dialog, Portal, Stack } from "@chakra-ui/react";
import { type ReactNode, type SyntheticEvent, useState } from "react";

import { type ApiError, asApiError } from "../api/client";
import { useTexts } from "../locales";
import { Problem } from "./States";

/** A button that opens a form; `send` ends with what is said when it has worked. */
export const Ask = ({ label, title, explain, children, send, sendLabel, done, canSend = true, size = "xs" }: {
  label: string; title: string; explain?: string; children: ReactNode; send: () => Promise<ReactNode>; sendLabel: string;
  done?: () => void; canSend?: boolean; size?: "xs" | "sm";
}) => {
  const t = useTexts();
  const [isOpen, setOpen] = useState(false);
  const [isSending, setSending] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const [answer, setAnswer] = useState<ReactNode>(null);
  const open = (next: boolean) => {
    setOpen(next);
    setError(null);
    if (!next && answer !== null) {
      setAnswer(null);
      done?.();
    }
  };
  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    setSending(true);
    setError(null);
    send()
      .then(setAnswer)
      .catch((thrown: unknown) => { setError(asApiError(thrown)); })
      .finally(() => { setSending(false); });
  };
  return (
    <Dialog.Root open={isOpen} onOpenChange={(details) => { open(details.open); }} lazyMount unmountOnExit>
      <Dialog.Trigger asChild><Button size={size} variant="outline">{label}</Button></Dialog.Trigger>
      <Portal>
        <Dialog.Backdrop />
        <Dialog.Positioner>
          <Dialog.Content>
            <form onSubmit={submit}>
              <Dialog.Header><Dialog.Title overflowWrap="anywhere">{title}</Dialog.Title></Dialog.Header>
              <Dialog.Body>
                <Stack gap={3}>
                  {explain && <Dialog.Description>{explain}</Dialog.Description>}
                  {answer ?? children}
                  {error && <Problem error={error} />}
                </Stack>
              </Dialog.Body>
              <Dialog.Footer>
                {answer === null && <Button type="submit" size="sm" loading={isSending} disabled={!canSend} colorPalette="brand">{sendLabel}</Button>}
              </Dialog.Footer>
            </form>
            <Dialog.CloseTrigger asChild><CloseButton size="sm" aria-label={t("field.cancel")} /></Dialog.CloseTrigger>
          </Dialog.Content>
        </Dialog.Positioner>
      </Portal>
    </Dialog.Root>
  );
};
