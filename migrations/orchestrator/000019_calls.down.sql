DROP TABLE conversation_messages, budget_approvals, spending, calls;
