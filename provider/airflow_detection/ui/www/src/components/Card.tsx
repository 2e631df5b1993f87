import { Box, Flex, Heading } from "@chakra-ui/react";
import { type ReactNode, useId } from "react";

/** A part of a page with its heading. */
export const Card = ({ title, aside, note, children, id }: {
  title: string; aside?: ReactNode; note?: ReactNode; children: ReactNode; id?: string;
}) => {
  const heading = useId();
  return (
    <Box as="section" id={id} aria-labelledby={heading} borderWidth="1px" borderColor="border.emphasized" borderRadius="md" bg="bg" p={4} minW={0}>
      <Flex justify="space-between" align="center" gap={3} wrap="wrap" mb={note ? 0 : 2}>
        <Heading as="h2" size="md" id={heading} overflowWrap="anywhere" minW={0}>{title}</Heading>
        {aside}
      </Flex>
      {note && <Box fontSize="sm" color="fg.muted" mb={2}>{note}</Box>}
      {children}
    </Box>
  );
};
