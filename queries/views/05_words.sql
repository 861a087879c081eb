-- `counted(1, 'call')` is "1 call", `counted(2, 'call')` "2 calls": for the sentences of findings.
CREATE MACRO counted(number, noun) AS
    CAST(number AS BIGINT) || ' ' || noun || CASE WHEN CAST(number AS BIGINT) = 1 THEN '' ELSE 's' END;
